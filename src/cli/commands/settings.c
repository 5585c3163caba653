/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast settings: shows power limits, clocks and compute modes, wanted and actual. `apply` applies them once;
 * `serve` (holdfast-settings.service) does so after each initialisation of a GPU.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/node/settings_state.h"
#include "cli/report/report.h"
#include "cli/settings/service.h"
#include "cli/settings/worker.h"
#include "client/nvml.h"

#define SERVICE "holdfast-settings.service"

static struct settings_options {
        struct ids gpus;
        bool dry_run;
        bool json;
        const char *config;
        const char *nvml;
        uint64_t interval_usec;
        uint64_t hook_usec;
        uint64_t timeout_usec;
} chosen = {
        .interval_usec = 60 * USEC_PER_SEC,
        .hook_usec = 60 * USEC_PER_SEC,
        .timeout_usec = 5 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_GPU(struct settings_options, "only this GPU; may be given several times"),
        OPTION_SWITCH(struct settings_options, dry_run, "dry-run",
                      "with apply: only print what would be changed, and why something could not be changed"),
        OPTION_JSON(struct settings_options, "print JSON (docs/schemas/settings.json)"),
        OPTION_VALUE(struct settings_options, config, OPTION_TEXT, "config", "FILE",
                     "read this configuration (default: /etc/holdfast/holdfast.conf)"),
        OPTION_VALUE(struct settings_options, nvml, OPTION_TEXT, "nvml", "FILE",
                     "the library that reads and changes settings (default: " NVML_LIBRARY "; required with --root)"),
        OPTION_VALUE(struct settings_options, interval_usec, OPTION_SECONDS, "interval", "SECONDS",
                     "with serve: interval for comparing all settings (default 60)"),
        OPTION_VALUE(struct settings_options, hook_usec, OPTION_SECONDS, "hook-timeout", "SECONDS",
                     "with serve: kill a hook after that long (default 60)"),
        OPTION_TIMEOUT(struct settings_options, "wait that long for the daemon's answer (default 5)"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "every setting is as wanted, or none is wanted"},
        {STATUS_FAILED,
         "a setting differs, is unknown or cannot be applied; a hook failed; or the configuration is invalid"},
        {STATUS_USAGE, "wrong usage"},
        {STATUS_NO_DAEMON, "neither a driver nor a daemon"},
        {STATUS_NOT_PERMITTED, "apply and serve: need root"},
        {STATUS_NO_GPU, "no such GPU"},
        {0},
};

struct command_run {
        const struct invocation *invocation;
        char config_path[PATH_MAX];
        struct config config;
        struct snapshot *snapshot;
        json_t *document; /* docs/schemas/settings.json */
};

static void command_run_done(struct command_run *run) {
        snapshot_done(&run->snapshot);
        json_decref(run->document);
}

/* ---- what is wanted ------------------------------------------------------------------------------------------- */

static int find_config(struct command_run *run) {
        int r = chosen.config
                        ? text_format(run->config_path, PATH_MAX, "%s", chosen.config)
                        : locations_path(run->config_path, run->invocation->locations, "/etc/holdfast/holdfast.conf");

        return r < 0 ? complain(run->invocation, STATUS_FAILED, "the path of the configuration is too long")
                     : STATUS_DONE;
}

static int read_config(struct command_run *run) {
        char error[CONFIG_ERROR_SIZE];
        int r;

        config_init(&run->config);
        r = config_read(&run->config, run->config_path, error);
        return r < 0 && (r != -ENOENT || chosen.config) ? complain(run->invocation, STATUS_FAILED, "%s", error)
                                                        : STATUS_DONE;
}

static int look(struct command_run *run) {
        int status =
                command_look(run->invocation, SNAPSHOT_DAEMON | SNAPSHOT_QUICK, chosen.timeout_usec, &run->snapshot);

        return status == STATUS_DONE ? command_select(run->invocation, &chosen.gpus, STATUS_NO_DAEMON, run->snapshot)
                                     : status;
}

/* ---- the document --------------------------------------------------------------------------------------------- */

/* What apply_run() returns if nothing is known of the GPU. */
static json_t *nothing_known(const struct config_settings *wanted, const char *reason) {
        return json_pack("{s:s, s:o}", "problem", reason, "settings", apply_rows_unknown(wanted, true, reason));
}

static json_t *apply_gpu(const struct command_run *run, const struct snapshot_gpu *gpu,
                         const struct config_settings *wanted) {
        const struct apply apply = {
                .locations = run->invocation->locations,
                .nvml = chosen.nvml,
                .address = gpu->info.address,
                .minor = gpu->info.minor,
                .mode = chosen.dry_run ? APPLY_PLAN : APPLY_CHANGE,
                .wanted = wanted,
        };
        json_t *result;

        if (gpu->in_daemon && gpu->detail.leased)
                return nothing_known(wanted, "not applied: a client has a lease of the GPU");
        if (gpu->held != HF_YES)
                return nothing_known(wanted, "not applied: no process holds the GPU, so the driver would forget it");
        result = settings_worker_apply(&apply);
        return result ? result : nothing_known(wanted, "NVML gave no answer in 30 s, or crashed");
}

static json_t *gpu_row(const struct command_run *run, const struct snapshot_gpu *gpu, bool applies) {
        const struct config_settings wanted = config_settings(&run->config, &gpu->info, (int)gpu->index);
        json_t *row = applies ? apply_gpu(run, gpu, &wanted) : nothing_known(&wanted, SERVICE " does not run");

        (void)json_object_set_new(row, "index", json_integer((json_int_t)gpu->index));
        (void)json_object_set_new(row, "address", json_string(gpu->address));
        (void)json_object_set_new(row, "uuid", json_string(gpu->info.uuid));
        (void)json_object_set_new(row, "policy", json_string(wanted.policy == CONFIG_ENFORCE ? "enforce" : "at-open"));
        (void)json_object_set_new(row, "hooks", json_array());
        return row;
}

static int make_document(struct command_run *run, bool applies) {
        json_t *gpus = json_array();

        each_selected(gpu, run->snapshot)
                (void)json_array_append_new(gpus, gpu_row(run, gpu, applies));
        run->document = json_pack("{s:s, s:o}", "schema", "holdfast.settings/1", "gpus", gpus);
        return run->document ? STATUS_DONE : complain_memory(run->invocation);
}

/* Removes the GPUs that are not selected from the service's document. */
static void take_state(struct command_run *run) {
        json_t *gpus = json_array();

        each_selected(gpu, run->snapshot)
                (void)json_array_append(gpus, settings_state_find(run->document, gpu->address)); /* NULL: not taken */
        (void)json_object_set_new(run->document, "gpus", gpus);
}

/* ---- output --------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key) {
        return settings_state_text(object, key, "-");
}

static void tell_setting(struct table *table, const json_t *gpu, const json_t *row) {
        bool differs = json_is_true(json_object_get(row, "differs"));
        bool applied = json_is_true(json_object_get(row, "applied"));

        table_row(table);
        table_cell(table, COLOUR_NONE, "%lld", (long long)json_integer_value(json_object_get(gpu, "index")));
        table_cell(table, COLOUR_NONE, "%s", text_of(gpu, "address"));
        table_cell(table, COLOUR_NONE, "%s", text_of(row, "name"));
        table_cell(table, COLOUR_NONE, "%s", text_of(row, "wanted"));
        table_cell(table, differs ? COLOUR_BAD : COLOUR_GOOD, "%s", applied ? "(set)" : text_of(row, "actual"));
        table_cell(table, COLOUR_NONE, "%s", text_of(row, "since"));
        table_cell(table, COLOUR_NONE, "%s",
                   applied && !differs ? "set; NVML does not report locked clocks" : text_of(row, "reason"));
}

static void tell_failed_hooks(const json_t *gpu) {
        json_t *row;
        size_t i;

        json_array_foreach(json_object_get(gpu, "hooks"), i, row) {
                if (json_is_string(json_object_get(row, "failure")))
                        report_say("GPU %lld (%s): hook %s failed at event %s: %s",
                                   (long long)json_integer_value(json_object_get(gpu, "index")),
                                   text_of(gpu, "address"), text_of(row, "name"), text_of(row, "event"),
                                   text_of(row, "failure"));
        }
}

static int tell_text(const struct command_run *run) {
        static const struct table_column columns[] = {
                /* clang-format off */
                {"GPU", .right = true},
                {"ADDRESS"},
                {"SETTING"},
                {"WANTED"},
                {"ACTUAL"},
                {"SINCE"},
                {"WHY"},
                /* clang-format on */
        };
        CLEANUP(table_done) struct table table = {.columns = columns, .n_columns = ARRAY_SIZE(columns)};
        const struct report_style style = report_style_of(stdout);
        size_t i, j, n = 0;
        json_t *gpu, *row;

        json_array_foreach(json_object_get(run->document, "gpus"), i, gpu) {
                json_array_foreach(json_object_get(gpu, "settings"), j, row) {
                        tell_setting(&table, gpu, row);
                        n++;
                }
                tell_failed_hooks(gpu);
        }
        if (n == 0) {
                report_say("No settings are wanted (holdfast.conf(5))");
                return STATUS_DONE;
        }
        return table_print(&table, stdout, style.width, style.colours) < 0 ? complain_memory(run->invocation)
                                                                           : STATUS_DONE;
}

static int tell(const struct command_run *run) {
        size_t i, n_differing = 0;
        json_t *gpu;
        int status;

        json_array_foreach(json_object_get(run->document, "gpus"), i, gpu)
                n_differing += settings_state_count_differing(gpu);
        status = chosen.json ? command_print_json(run->invocation, json_incref(run->document)) : tell_text(run);
        return status == STATUS_DONE && n_differing > 0 ? STATUS_FAILED : status;
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static int show(struct command_run *run) {
        int status = look(run), r;

        if (status != STATUS_DONE)
                return status;
        r = settings_state_read(run->invocation->locations, &run->document);
        if (r == 0)
                take_state(run);
        else if (r == -ENOENT) {
                status = read_config(run);
                if (status == STATUS_DONE)
                        status = make_document(run, false);
        } else
                status = complain(run->invocation, STATUS_FAILED, "cannot read what " SERVICE " has written: %s",
                                  strerror(-r));
        return status == STATUS_DONE ? tell(run) : status;
}

static int complain_not_root(const struct invocation *invocation) {
        return complain(invocation, STATUS_NOT_PERMITTED, "only root may change settings; this is uid %u",
                        (unsigned)geteuid());
}

static int apply(struct command_run *run) {
        int status;

        if (geteuid() != 0 && !chosen.dry_run)
                return complain_not_root(run->invocation);
        status = read_config(run);
        if (status == STATUS_DONE)
                status = look(run);
        if (status == STATUS_DONE)
                status = make_document(run, true);
        return status == STATUS_DONE ? tell(run) : status;
}

static int serve(struct command_run *run) {
        const struct service_options service = {
                .locations = run->invocation->locations,
                .config = run->config_path,
                .nvml = chosen.nvml,
                .look_usec = chosen.interval_usec,
                .hook_usec = chosen.hook_usec,
        };

        if (geteuid() != 0)
                return complain_not_root(run->invocation);
        return service_run(&service);
}

static int run(const struct invocation *invocation) {
        CLEANUP(command_run_done) struct command_run run = {.invocation = invocation};
        const char *word = invocation->n_words > 0 ? invocation->words[0] : "";
        int status;

        if (invocation->n_words > 1)
                return complain_usage(invocation, "unexpected '%.40s'", invocation->words[1]);
        if (chosen.dry_run && !text_equal(word, "apply"))
                return complain_usage(invocation, "--dry-run needs the word apply");
        status = find_config(&run);
        if (status != STATUS_DONE)
                return status;
        if (text_equal(word, ""))
                return show(&run);
        if (text_equal(word, "apply"))
                return apply(&run);
        if (text_equal(word, "serve"))
                return serve(&run);
        return complain_usage(invocation, "unexpected '%.40s'; there are apply and serve", word);
}

const struct command settings_command = {
        .name = "settings",
        .words = "[apply|serve]",
        .summary = "show and apply power limits, clocks, compute modes",
        .description = "Shows the settings in the configuration (holdfast.conf(5)), what the GPUs have,\n"
                       "since when, and why they differ. 'apply' applies them now to GPUs that are held\n"
                       "and not leased. holdfast-settings.service runs 'serve', which applies them after\n"
                       "each initialisation of a GPU, and runs hooks.",
        .examples = "  holdfast settings\n"
                    "  holdfast settings apply --gpu 0 --dry-run",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .run = run,
};
