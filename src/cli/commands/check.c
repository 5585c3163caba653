/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast check: one line and an exit status for monitoring. It asks our daemon once (NVIDIA's about each GPU), and
 * opens no GPU: one that hangs or is cold must not slow a health check down.
 */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/report/report.h"

enum {
        PROBLEMS_SHOWN_MAX = 4, /* in the line; the JSON has all */
        LINE_SIZE = 2048,
        REASON_SIZE = HF_TEXT_SIZE + 128,
};

/* The plug-in convention of Nagios. */
enum check_verdict {
        VERDICT_OK,
        VERDICT_WARNING,
        VERDICT_CRITICAL,
        VERDICT_UNKNOWN,
};

enum expectation {
        EXPECT_CONFIGURED, /* EXPECT_ON, or EXPECT_ANY of a GPU that the configuration leaves off */
        EXPECT_ON,
        EXPECT_OFF,
        EXPECT_ANY,
        EXPECT_DAEMON, /* GPUs are not judged */
        N_EXPECTATIONS,
};

enum format {
        FORMAT_NAGIOS,
        FORMAT_NHC,
        FORMAT_NPD,
        FORMAT_JSON,
};

static const char *const expectation_words[] = {"configured", "on", "off", "any", "daemon", NULL};
static const char *const format_words[] = {"nagios", "nhc", "npd", "json", NULL};

static struct check_options {
        int expectation;
        int format;
        struct ids gpus;
        bool json;
        bool ignore_settings;
        uint64_t gpus_min;
        uint64_t timeout_usec;
} chosen = {
        .timeout_usec = 2 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        {
                .name = "expect",
                .argument = "configured|on|off|any|daemon",
                .help = "the expected state of the GPUs: held unless the configuration leaves them off (configured, "
                        "the default), held (on), not held (off), or either (any); daemon: only that a daemon answers",
                .kind = OPTION_CHOICE,
                .offset = offsetof(struct check_options, expectation),
                .choices = expectation_words,
        },
        {
                .name = "format",
                .argument = "nagios|nhc|npd|json",
                .help = "format of the line (default nagios); npd has its own exit statuses",
                .kind = OPTION_CHOICE,
                .offset = offsetof(struct check_options, format),
                .choices = format_words,
        },
        OPTION_GPU(struct check_options, "only this GPU, which must exist; may be given several times"),
        OPTION_SWITCH(struct check_options, ignore_settings, "ignore-settings",
                      "ignore the results of holdfast-settings.service"),
        OPTION_JSON(struct check_options, "as --format json (docs/schemas/check.json)"),
        OPTION_VALUE(struct check_options, gpus_min, OPTION_NUMBER, "min-gpus", "N",
                     "fewer GPUs than this are critical"),
        OPTION_TIMEOUT(struct check_options, "wait that long for the daemon's answer (default 2)"),
        {0},
};

static const struct command_exit exits[] = {
        {VERDICT_OK, "OK: a daemon runs, and every GPU is as expected: held, unless it is configured off"},
        {VERDICT_WARNING,
         "WARNING: temporary or intended: opening, closing, leased, UVM not on yet, the daemon still starting"},
        {VERDICT_CRITICAL, "CRITICAL: no daemon, or it does not answer; a GPU failed, is stuck, is missing or is not "
                           "in the expected state"},
        {VERDICT_UNKNOWN, "UNKNOWN: no driver and no daemon; no GPU at all; no permission; wrong usage"},
        {0},
};

/* ---- what is wrong with a GPU --------------------------------------------------------------------------------- */

/* A condition of a GPU, and the verdict for each expectation. */
struct condition {
        bool (*applies)(const struct snapshot *snapshot, const struct snapshot_gpu *gpu);
        enum check_verdict verdicts[N_EXPECTATIONS];
        const char *text; /* NULL: the GPU's last failure */
};

#define CONDITION(name, expression)                                                                                    \
        static bool is_##name(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {                       \
                return expression;                                                                                     \
        }

CONDITION(stuck, gpu->detail.stuck)
CONDITION(leased, gpu->detail.leased)
CONDITION(opening, snapshot->daemon == DAEMON_HOLDFAST && gpu->detail.state == HF_GPU_OPENING)
CONDITION(closing, snapshot->daemon == DAEMON_HOLDFAST && gpu->detail.state == HF_GPU_CLOSING)
CONDITION(not_known_to_daemon, snapshot->daemon == DAEMON_NVIDIA && gpu->get_status != NVPD_SUCCESS)
CONDITION(waiting_for_uvm, gpu->held == HF_YES && gpu->detail.uvm == HF_UVM_WAITING)
CONDITION(held, gpu->held == HF_YES)
CONDITION(kept_by_flag, gpu->legacy == HF_YES)
CONDITION(wanted, gpu->detail.wanted)
CONDITION(off, true)

/* NVIDIA's daemon reports what clients asked for; its descriptors show what it does. */
static bool is_not_open(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        if (snapshot->daemon != DAEMON_NVIDIA || gpu->held != HF_YES || gpu->info.minor < 0 || !snapshot->clients_known)
                return false;
        for (size_t i = 0; i < gpu->n_clients; i++)
                if (gpu->clients[i].pid == snapshot->daemon_pid)
                        return false;
        return true;
}

#define ON_OFF_ANY(on, off, any)                                                                                       \
        { [EXPECT_ON] = VERDICT_##on, [EXPECT_OFF] = VERDICT_##off, [EXPECT_ANY] = VERDICT_##any }

/* The first that applies decides. With EXPECT_DAEMON the verdict is always VERDICT_OK, which is 0. */
static const struct condition conditions[] = {
        /* on, off, any */
        {is_stuck, ON_OFF_ANY(CRITICAL, CRITICAL, CRITICAL), "stuck in the driver"},
        {snapshot_has_failed, ON_OFF_ANY(CRITICAL, WARNING, CRITICAL), NULL},
        {is_not_known_to_daemon, ON_OFF_ANY(CRITICAL, WARNING, CRITICAL), "not known to the daemon"},
        {is_not_open, ON_OFF_ANY(CRITICAL, CRITICAL, CRITICAL), "reported as held, but the daemon has not opened it"},
        {is_leased, ON_OFF_ANY(WARNING, OK, OK), "leased: released until a client's lease ends"},
        {is_opening, ON_OFF_ANY(WARNING, WARNING, OK), "opening"},
        {is_closing, ON_OFF_ANY(WARNING, WARNING, OK), "closing"},
        {is_waiting_for_uvm, ON_OFF_ANY(WARNING, CRITICAL, WARNING), "held, UVM persistence not on yet"},
        {is_held, ON_OFF_ANY(OK, CRITICAL, OK), "held"},
        {is_kept_by_flag, ON_OFF_ANY(CRITICAL, CRITICAL, OK),
         "kept initialised by the kernel's deprecated flag only, not by the daemon"},
        {is_wanted, ON_OFF_ANY(CRITICAL, WARNING, WARNING), "released, though the daemon wants to hold it"},
        {is_off, ON_OFF_ANY(CRITICAL, OK, OK), "persistence mode is off"},
};

static const struct condition *find_condition(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        const struct condition *condition = conditions;

        while (!condition->applies(snapshot, gpu))
                condition++;
        return condition;
}

static enum check_verdict verdict_of(const struct condition *condition, const struct snapshot_gpu *gpu,
                                     enum expectation expectation) {
        if (expectation == EXPECT_CONFIGURED)
                expectation = gpu->configured == HF_NO ? EXPECT_ANY : EXPECT_ON;
        return condition->verdicts[expectation];
}

static const char *describe(const struct condition *condition, const struct snapshot_gpu *gpu, char *buffer,
                            size_t size) {
        if (!condition->text)
                (void)text_format(buffer, size, "failed: %s",
                                  gpu->detail.error_text[0] ? gpu->detail.error_text : "see the daemon's log");
        else if (condition->applies == is_waiting_for_uvm && gpu->detail.uvm_text[0] != '\0')
                (void)text_format(buffer, size, "%s: %s", condition->text, gpu->detail.uvm_text);
        else
                (void)text_copy(buffer, size, condition->text);
        return buffer;
}

/* ---- the judgement -------------------------------------------------------------------------------------------- */

struct judgement {
        struct snapshot *snapshot;
        enum expectation expectation;
        enum check_verdict verdict;
        size_t n_gpus; /* selected */
        size_t n_held; /* of those */
        size_t n_off;  /* neither held nor to be held, as configured */
        size_t n_problems;
        char cause[512]; /* what is wrong with the whole node; empty: nothing */
};

/* CRITICAL outranks UNKNOWN, so that missing information does not hide a known problem. */
static void judgement_worsen(struct judgement *judgement, enum check_verdict verdict) {
        static const int ranks[] = {
                [VERDICT_OK] = 0,
                [VERDICT_WARNING] = 1,
                [VERDICT_UNKNOWN] = 2,
                [VERDICT_CRITICAL] = 3,
        };

        if (ranks[verdict] > ranks[judgement->verdict])
                judgement->verdict = verdict;
}

static void blame(struct judgement *judgement, enum check_verdict verdict, const char *cause) {
        judgement_worsen(judgement, verdict);
        text_set(judgement->cause, "%s", cause);
}

/* Returns whether the GPUs can be judged. */
static bool judge_daemon(struct judgement *judgement) {
        const struct snapshot *snapshot = judgement->snapshot;

        switch (snapshot->daemon) {
        case DAEMON_HOLDFAST:
        case DAEMON_NVIDIA:
                return true;
        case DAEMON_SILENT:
                blame(judgement, snapshot->daemon_errno == -EACCES ? VERDICT_UNKNOWN : VERDICT_CRITICAL,
                      snapshot->daemon_error);
                return false;
        case DAEMON_NONE:
                break;
        }
        if (snapshot->driver_loaded) {
                blame(judgement, judgement->expectation == EXPECT_OFF ? VERDICT_OK : VERDICT_CRITICAL,
                      snapshot->daemon_error);
                return false;
        }
        text_set(judgement->cause, "the NVIDIA driver is not loaded, and %s", snapshot->daemon_error);
        judgement_worsen(judgement, VERDICT_UNKNOWN);
        return false;
}

static void judge_gpus(struct judgement *judgement) {
        const struct snapshot *snapshot = judgement->snapshot;

        each_selected(gpu, snapshot) {
                enum check_verdict verdict = verdict_of(find_condition(snapshot, gpu), gpu, judgement->expectation);

                judgement->n_gpus++;
                judgement->n_held += gpu->held == HF_YES;
                judgement->n_off += judgement->expectation == EXPECT_CONFIGURED && gpu->configured == HF_NO &&
                                    gpu->held == HF_NO && verdict == VERDICT_OK;
                judgement->n_problems += verdict != VERDICT_OK;
                judgement_worsen(judgement, verdict);
        }
}

static void judge_count(struct judgement *judgement, uint64_t gpus_min) {
        bool judges_gpus = judgement->expectation != EXPECT_DAEMON;
        char cause[128];

        if (judgement->n_gpus < gpus_min) {
                text_set(cause, "%zu GPU%s, fewer than %llu", judgement->n_gpus, text_plural(judgement->n_gpus),
                         (unsigned long long)gpus_min);
                blame(judgement, VERDICT_CRITICAL, cause);
        } else if (judgement->n_gpus == 0)
                blame(judgement, judges_gpus ? VERDICT_UNKNOWN : VERDICT_OK, "there are no GPUs to check");
        else if (judges_gpus && judgement->snapshot->daemon == DAEMON_HOLDFAST && !judgement->snapshot->head.ready)
                blame(judgement, VERDICT_WARNING, "the daemon is still starting");
}

/* Judges what holdfast-settings.service has found; nothing if it does not run. */
static void judge_settings(struct judgement *judgement) {
        size_t n = snapshot_count_differing(judgement->snapshot);
        char cause[128];

        if (n == 0 || judgement->expectation == EXPECT_DAEMON)
                return;
        text_set(cause, "%zu setting%s or hook%s not as wanted, see holdfast settings", n, text_plural(n),
                 text_plural(n));
        judgement_worsen(judgement, VERDICT_WARNING);
        if (judgement->cause[0] == '\0')
                text_set(judgement->cause, "%s", cause);
}

static void judge(struct judgement *judgement) {
        char error[192];
        int r;

        if (!judge_daemon(judgement)) {
                judgement->n_gpus = judgement->snapshot->n_gpus;
                return;
        }
        r = ids_select(&chosen.gpus, judgement->snapshot, error, sizeof(error));
        if (r < 0)
                blame(judgement, r == -ENODEV ? VERDICT_CRITICAL : VERDICT_UNKNOWN, error);
        judge_gpus(judgement);
        if (r == 0)
                judge_count(judgement, chosen.gpus_min);
}

/* ---- output --------------------------------------------------------------------------------------------------- */

/* "GPU 3 (0000:5d:00.0) failed: no power; GPU 4 ... ; and 2 more" */
static void append_problems(const struct judgement *judgement, char *line) {
        const struct snapshot *snapshot = judgement->snapshot;
        size_t n = 0;

        each_selected(gpu, snapshot) {
                const struct condition *condition = find_condition(snapshot, gpu);
                char reason[REASON_SIZE];

                if (verdict_of(condition, gpu, judgement->expectation) != VERDICT_OK && ++n <= PROBLEMS_SHOWN_MAX)
                        text_append_item(line, LINE_SIZE, "; ", "GPU %zu (%s) %s", gpu->index, gpu->address,
                                         describe(condition, gpu, reason, sizeof(reason)));
        }
        if (n > PROBLEMS_SHOWN_MAX)
                text_append_item(line, LINE_SIZE, "; ", "and %zu more", n - PROBLEMS_SHOWN_MAX);
}

static void append_summary(const struct judgement *judgement, char *line) {
        const struct snapshot *snapshot = judgement->snapshot;

        text_append_item(line, LINE_SIZE, "; ", "%zu of %zu GPU%s held by %s%s", judgement->n_held, judgement->n_gpus,
                         text_plural(judgement->n_gpus),
                         snapshot->daemon == DAEMON_HOLDFAST ? "Holdfast " : "NVIDIA's nvidia-persistenced",
                         snapshot->daemon == DAEMON_HOLDFAST ? snapshot->head.version : "");
        if (judgement->n_off > 0)
                text_append(line, LINE_SIZE, ", %zu off as configured", judgement->n_off);
}

static void write_line(const struct judgement *judgement, char line[static LINE_SIZE]) {
        line[0] = '\0';
        if (judgement->cause[0] != '\0')
                text_append(line, LINE_SIZE, "%s", judgement->cause);
        append_problems(judgement, line);
        if (judgement->n_gpus > 0 && snapshot_has_daemon(judgement->snapshot))
                append_summary(judgement, line);
}

static const char *const verdict_words[] = {
        [VERDICT_OK] = "OK",
        [VERDICT_WARNING] = "WARNING",
        [VERDICT_CRITICAL] = "CRITICAL",
        [VERDICT_UNKNOWN] = "UNKNOWN",
};

static void tell_nagios(const struct judgement *judgement, char *line) {
        /* The first bar begins the performance data. */
        for (char *bar = line; (bar = strchr(bar, '|'));)
                *bar = '/';
        report_say("HOLDFAST %s - %s | gpus=%zu held=%zu problems=%zu", verdict_words[judgement->verdict], line,
                   judgement->n_gpus, judgement->n_held, judgement->n_problems);
}

static json_t *problems_json(const struct judgement *judgement) {
        const struct snapshot *snapshot = judgement->snapshot;
        json_t *problems = json_array();

        each_selected(gpu, snapshot) {
                const struct condition *condition = find_condition(snapshot, gpu);
                enum check_verdict verdict = verdict_of(condition, gpu, judgement->expectation);
                char reason[REASON_SIZE];

                if (verdict != VERDICT_OK)
                        (void)json_array_append_new(
                                problems, json_pack("{s:I, s:s, s:s, s:s, s:s}", "index", (json_int_t)gpu->index,
                                                    "address", gpu->address, "verdict", verdict_words[verdict], "state",
                                                    snapshot_state(snapshot, gpu), "reason",
                                                    describe(condition, gpu, reason, sizeof(reason))));
        }
        return problems;
}

static int tell_json(const struct invocation *invocation, const struct judgement *judgement, const char *line) {
        int status = command_print_json(
                invocation,
                json_pack("{s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:o, s:o}", "schema", "holdfast.check/1", "verdict",
                          verdict_words[judgement->verdict], "exit_status", (int)judgement->verdict, "expect",
                          expectation_words[judgement->expectation], "summary", line, "gpus",
                          (json_int_t)judgement->n_gpus, "held", (json_int_t)judgement->n_held, "cause",
                          report_json_text(judgement->cause), "problems", problems_json(judgement)));

        return status == STATUS_DONE ? (int)judgement->verdict : status;
}

/* node-problem-detector: 0 is no problem, 1 a problem, all else unknown. */
static int npd_status(enum check_verdict verdict) {
        static const int statuses[] = {
                [VERDICT_OK] = 0,
                [VERDICT_WARNING] = 1,
                [VERDICT_CRITICAL] = 1,
                [VERDICT_UNKNOWN] = 2,
        };

        return statuses[verdict];
}

static int tell(const struct invocation *invocation, const struct judgement *judgement) {
        enum format format = chosen.json ? FORMAT_JSON : (enum format)chosen.format;
        char line[LINE_SIZE];

        write_line(judgement, line);
        switch (format) {
        case FORMAT_NAGIOS:
                tell_nagios(judgement, line);
                break;
        case FORMAT_NHC: /* the word that Node Health Check itself begins its messages with */
                report_say("%s: holdfast: %s", judgement->verdict == VERDICT_OK ? "OK" : "ERROR", line);
                break;
        case FORMAT_NPD:
                report_say("%s", line);
                break;
        case FORMAT_JSON:
                return tell_json(invocation, judgement, line);
        }
        return format == FORMAT_NPD ? npd_status(judgement->verdict) : (int)judgement->verdict;
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static int run(const struct invocation *invocation) {
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        struct judgement judgement = {.expectation = (enum expectation)chosen.expectation};

        if (command_look(invocation, SNAPSHOT_QUICK | SNAPSHOT_PROOF, chosen.timeout_usec, &snapshot) != STATUS_DONE)
                return VERDICT_UNKNOWN;
        judgement.snapshot = snapshot;
        judge(&judgement);
        if (!chosen.ignore_settings)
                judge_settings(&judgement);
        return tell(invocation, &judgement);
}

const struct command check_command = {
        .name = "check",
        .summary = "a line and an exit status for monitoring",
        .description = "Reports in one line whether a daemon runs and holds every GPU. The kernel's own\n"
                       "flag alone is not enough. Asks the daemon, and opens no GPU.",
        .examples = "  holdfast check --min-gpus 8\n"
                    "  holdfast check --expect any --format nhc",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .failed_status = VERDICT_UNKNOWN,
        .status_answers = true,
        .run = run,
};
