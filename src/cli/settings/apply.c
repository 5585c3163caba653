/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/settings/apply.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/node/holders.h"
#include "cli/node/settings_state.h"
#include "cli/report/report.h"
#include "client/nvml_settings.h"

enum { REASON_SIZE = 320 };

/* What came of one setting. */
struct outcome {
        struct setting_value wanted; /* in the unit of the GPU: no percentage */
        struct setting_value actual; /* not set: unknown */
        bool differs;
        bool applied; /* set, but NVML cannot read it: trusted until the GPU is opened anew */
        char reason[REASON_SIZE];
};

struct applying {
        const struct apply *apply;
        struct nvml_gpu gpu;
        bool looked;      /* for clients */
        char client[128]; /* the process that prevents a change; empty: none */
};

static void differ(struct outcome *outcome, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void differ(struct outcome *outcome, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(outcome->reason, sizeof(outcome->reason), format, arguments);
        va_end(arguments);
        outcome->differs = true;
}

/* ---- what the last run has found, since the GPU was opened ----------------------------------------------------- */

static const json_t *find_previous(const struct apply *apply, enum setting setting) {
        size_t place;

        return settings_state_find_row(json_object_get(apply->previous, "settings"), "name", setting_name(setting),
                                       &place);
}

/* Whether the last run has set this value, which NVML cannot read. */
static bool was_applied(const struct apply *apply, enum setting setting, const char *wanted) {
        const json_t *row = find_previous(apply, setting);
        const char *text = json_string_value(json_object_get(row, "wanted"));

        return text && json_is_true(json_object_get(row, "applied")) && text_equal(text, wanted);
}

/* Why the setting was not as wanted in the last run, or NULL if it was. */
static const char *previous_reason(const struct apply *apply, enum setting setting) {
        const json_t *row = find_previous(apply, setting);

        return json_is_true(json_object_get(row, "differs")) ? json_string_value(json_object_get(row, "reason")) : NULL;
}

/* ---- users of the GPU ----------------------------------------------------------------------------------------- */

static void find_client(struct applying *applying) {
        CLEANUP(free_ptr) struct holder *holders = NULL;
        struct holders_sight sight;
        size_t n = 0;

        applying->looked = true;
        if (holders_scan(applying->apply->locations, &holders, &n, &sight) < 0 || !sight.complete) {
                text_set(applying->client, "unknown which processes have the GPU open");
                return;
        }
        for (size_t i = 0; i < n; i++) {
                const struct holder *holder = &holders[i];

                if (holder->minor != applying->apply->minor || holder->is_keeper || holder->pid == getpid() ||
                    holder->pid == applying->apply->daemon_pid)
                        continue;
                text_set(applying->client, "%s (pid %d) has the GPU open", holder->name, (int)holder->pid);
                return;
        }
}

static bool may_change(struct applying *applying, enum setting setting, struct outcome *outcome) {
        if (applying->apply->mode == APPLY_COMPARE) {
                const char *reason = previous_reason(applying->apply, setting);

                differ(outcome, "%s",
                       reason ? reason
                              : "changed by another program since it was applied; run holdfast settings apply");
                return false;
        }
        if (applying->apply->mode == APPLY_PLAN) {
                differ(outcome, "would be changed");
                return false;
        }
        if (applying->apply->mode == APPLY_CHANGE_IF_IDLE && !applying->looked)
                find_client(applying);
        if (applying->client[0] == '\0')
                return true;
        differ(outcome, "not changed now: %s", applying->client);
        return false;
}

/* ---- one setting ---------------------------------------------------------------------------------------------- */

static void ask_for_reset(const struct apply *apply, enum setting setting, struct outcome *outcome) {
        char address[PCI_ADDRESS_SIZE];

        (void)pci_address_format(&apply->address, address);
        differ(outcome,
               "a change needs a reset: nvidia-smi -i %s %s %u, then holdfast release --gpu %s -- nvidia-smi "
               "--gpu-reset -i %s",
               address, setting == SETTING_ECC ? "-e" : "-mig", outcome->wanted.high, address, address);
}

/* Turns a percentage into watts, and compares with what the GPU takes. Returns whether the value can be set. */
static bool fit_range(struct applying *applying, enum setting setting, struct outcome *outcome) {
        const char *unit = setting == SETTING_POWER_LIMIT ? "W" : "MHz";
        struct setting_value *wanted = &outcome->wanted;
        unsigned low, high;

        if (nvml_setting_range(&applying->gpu, setting, &low, &high) < 0) {
                if (wanted->is_percent)
                        differ(outcome, "the GPU does not report its maximum, of which %u %% are wanted", wanted->high);
                return !wanted->is_percent;
        }
        if (wanted->is_percent)
                *wanted = (struct setting_value){
                        .is_set = true,
                        .low = high * wanted->low / 100,
                        .high = high * wanted->high / 100,
                };
        if (wanted->low >= low && wanted->high <= high)
                return true;
        differ(outcome, "%u %s is outside the GPU's range of %u to %u %s",
               wanted->low < low ? wanted->low : wanted->high, unit, low, high, unit);
        return false;
}

/* Reads it into outcome->actual. Returns 0, -ENODATA if the value is unknown, or negative errno and the reason. */
static int read_actual(struct applying *applying, enum setting setting, struct outcome *outcome) {
        char error[REASON_SIZE];
        int r = nvml_setting_read(&applying->gpu, setting, &outcome->actual, error, sizeof(error));

        if (r < 0 && r != -ENODATA)
                differ(outcome, "%s", error);
        return r;
}

static void change(struct applying *applying, enum setting setting, struct outcome *outcome) {
        char error[REASON_SIZE];
        int r;

        if (!may_change(applying, setting, outcome))
                return;
        if (nvml_setting_write(&applying->gpu, setting, &outcome->wanted, error, sizeof(error)) < 0) {
                differ(outcome, "%s", error);
                return;
        }
        r = read_actual(applying, setting, outcome);
        outcome->applied = r == -ENODATA;
        if (r == 0 && !setting_is_equal(&outcome->actual, &outcome->wanted))
                differ(outcome, "the driver accepted it but has another value");
}

static void apply_setting(struct applying *applying, enum setting setting, struct outcome *outcome) {
        const struct apply *apply = applying->apply;
        char wanted[SETTING_TEXT_SIZE];
        int r = read_actual(applying, setting, outcome);

        if ((r < 0 && r != -ENODATA) || !fit_range(applying, setting, outcome))
                return;
        if (r == 0 && setting_is_equal(&outcome->actual, &outcome->wanted))
                return;
        outcome->applied =
                r == -ENODATA && was_applied(apply, setting, setting_format(setting, &outcome->wanted, wanted));
        if (outcome->applied && apply->mode != APPLY_CHANGE)
                return;
        if (setting_needs_reset(setting))
                ask_for_reset(apply, setting, outcome);
        else
                change(applying, setting, outcome);
}

/* ---- all of them ---------------------------------------------------------------------------------------------- */

/* A percentage that is left here has no value in the setting's unit: the GPU's maximum is unknown. */
static json_t *outcome_json(enum setting setting, const struct outcome *outcome) {
        char wanted[SETTING_TEXT_SIZE], actual[SETTING_TEXT_SIZE];
        bool known = outcome->actual.is_set;

        return json_pack("{s:s, s:s, s:o, s:o, s:o, s:b, s:b, s:o}", "name", setting_name(setting), "wanted",
                         setting_format(setting, &outcome->wanted, wanted), "wanted_value",
                         outcome->wanted.is_percent ? json_null() : json_integer(outcome->wanted.high), "actual",
                         known ? json_string(setting_format(setting, &outcome->actual, actual)) : json_null(),
                         "actual_value", known ? json_integer(outcome->actual.high) : json_null(), "differs",
                         (int)outcome->differs, "applied", (int)outcome->applied, "reason",
                         report_json_text(outcome->reason));
}

/* Without NVML everything differs, for that reason. */
static json_t *run_all(struct applying *applying, const char *problem) {
        json_t *rows = json_array();

        for (enum setting i = 0; i < N_SETTINGS; i++) {
                struct outcome outcome = {.wanted = applying->apply->wanted->values[i]};

                if (!outcome.wanted.is_set)
                        continue;
                if (problem[0] != '\0')
                        differ(&outcome, "%s", problem);
                else
                        apply_setting(applying, i, &outcome);
                (void)json_array_append_new(rows, outcome_json(i, &outcome));
        }
        return json_pack("{s:o, s:o}", "problem", report_json_text(problem), "settings", rows);
}

json_t *apply_rows_unknown(const struct config_settings *wanted, bool differs, const char *reason) {
        json_t *rows = json_array();

        for (enum setting i = 0; i < N_SETTINGS; i++) {
                char text[SETTING_TEXT_SIZE];

                if (wanted->values[i].is_set)
                        (void)json_array_append_new(rows, json_pack("{s:s, s:s, s:n, s:n, s:n, s:b, s:b, s:s}", "name",
                                                                    setting_name(i), "wanted",
                                                                    setting_format(i, &wanted->values[i], text),
                                                                    "wanted_value", "actual", "actual_value", "differs",
                                                                    (int)differs, "applied", 0, "reason", reason));
        }
        return rows;
}

json_t *apply_run(const struct apply *apply) {
        CLEANUP(nvml_done) struct nvml *nvml = NULL;
        struct applying applying = {.apply = apply};
        char problem[REASON_SIZE] = "";

        if (apply->wanted->n == 0)
                return run_all(&applying, problem);
        if (!apply->locations->has_nvml && !apply->nvml)
                text_set(problem, "with --root, name NVML's library: give --nvml FILE");
        else if (nvml_open(&nvml, apply->nvml ? apply->nvml : NVML_LIBRARY, problem, sizeof(problem)) == 0)
                (void)nvml_gpu_open(&applying.gpu, nvml, &apply->address, problem, sizeof(problem));
        return run_all(&applying, problem);
}
