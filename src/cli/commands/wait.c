/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast wait: returns when the GPUs are held, and reports progress. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/report/report.h"
#include "client/client.h"

#define POLL_USEC (100 * USEC_PER_MSEC) /* if the daemon does not report changes */
#define TICK_USEC USEC_PER_SEC
#define WATCH_USEC (90 * USEC_PER_SEC) /* our daemon answers within a minute */
/* Until the daemon lists a GPU that the driver lists. The driver may make it wait while another GPU is initialised. */
#define LISTING_USEC (30 * USEC_PER_SEC)

static struct wait_options {
        struct ids gpus;
        bool json;
        uint64_t timeout_usec;
} chosen = {
        .timeout_usec = 300 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_GPU(struct wait_options,
                   "this GPU, whether the daemon wants it or not; may be given several times (default: every GPU "
                   "that the daemon wants to hold)"),
        OPTION_JSON(struct wait_options, "print JSON at the end (docs/schemas/wait.json)"),
        OPTION_TIMEOUT(struct wait_options, "give up after this time; 0: look once; infinity: never (default 300)"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "every GPU that is waited for is held"},
        {STATUS_FAILED, "timeout; the missing GPUs are named, with the reasons"},
        {STATUS_USAGE, "wrong usage"},
        {STATUS_NO_DAEMON, "timeout, and no daemon answers"},
        {0},
};

/* What the daemon said, and what that means for the wait. */
struct look {
        struct snapshot *snapshot;
        size_t n_needed; /* selected rows: the GPUs to wait for */
        size_t n_held;   /* of these */
        bool done;
        char problem[512]; /* no daemon, or an unknown GPU: a sentence; otherwise empty */
};

struct waiting {
        const struct invocation *invocation;
        uint64_t start_usec;
        uint64_t deadline_usec;
        bool terminal; /* one line that is written again and again */
        struct look now;
        struct look before;
};

static void look_done(struct look *look) {
        snapshot_done(&look->snapshot);
        *look = (struct look){0};
}

static void waiting_done(struct waiting *waiting) {
        look_done(&waiting->now);
        look_done(&waiting->before);
}

/* ---- looking -------------------------------------------------------------------------------------------------- */

/*
 * NVIDIA's daemon does not report what it wants to hold; its default is every GPU. Ours may not have heard yet of a GPU
 * that was bound just before, and will want it.
 */
static bool is_wanted(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, bool early) {
        if (gpu->info.excluded)
                return false;
        return snapshot->daemon == DAEMON_NVIDIA || (gpu->in_daemon && gpu->detail.wanted) ||
               (early && snapshot_is_unlisted(snapshot, gpu));
}

/* The daemon's list may grow until it has tried every GPU. */
static bool is_complete(const struct look *look, bool named) {
        if (look->snapshot->daemon == DAEMON_HOLDFAST)
                return named || look->snapshot->head.ready;
        return look->n_needed > 0;
}

/* Returns 0, or -EINVAL, with a sentence in look->problem, if the names can never be resolved. */
static int look_judge(struct look *look, const struct ids *ids, bool early) {
        struct snapshot *snapshot = look->snapshot;
        int r;

        if (!snapshot_has_daemon(snapshot)) {
                text_set(look->problem, "%s", snapshot->daemon_error);
                return 0;
        }
        r = ids_select(ids, snapshot, look->problem, sizeof(look->problem));
        if (r < 0)
                return r == -EINVAL ? r : 0; /* the GPU may still be added */
        each_gpu(gpu, snapshot) {
                if (ids->n == 0)
                        gpu->selected = is_wanted(snapshot, gpu, early);
                look->n_needed += gpu->selected;
                look->n_held += gpu->selected && gpu->held == HF_YES;
        }
        look->done = look->n_held == look->n_needed && is_complete(look, ids->n > 0);
        return 0;
}

static bool is_unlisted(const struct look *look) {
        return look->snapshot && snapshot_has_unlisted(look->snapshot);
}

static int look_again(struct waiting *waiting) {
        uint64_t left_usec = clock_left_usec(waiting->deadline_usec);
        struct snapshot_request request = {
                .locations = waiting->invocation->locations,
                .flags = SNAPSHOT_DAEMON,
                .timeout_usec = left_usec < POLL_USEC             ? POLL_USEC
                                : left_usec < COMMAND_ANSWER_USEC ? left_usec
                                                                  : COMMAND_ANSWER_USEC,
        };

        look_done(&waiting->before);
        waiting->before = waiting->now;
        waiting->now = (struct look){0};
        if (!is_unlisted(&waiting->before))
                request.inventory = waiting->before.snapshot;
        if (snapshot_read(&request, &waiting->now.snapshot) < 0)
                return -ENOMEM;
        return look_judge(&waiting->now, &chosen.gpus, clock_monotonic_usec() < waiting->start_usec + LISTING_USEC);
}

/* ---- output --------------------------------------------------------------------------------------------------- */

/* "held, opened in 1.50 s", "failed: <why>", "opening". Returns buffer. */
static const char *describe(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, char *buffer,
                            size_t size) {
        const char *state = snapshot_state(snapshot, gpu);

        if (snapshot_is_unlisted(snapshot, gpu))
                (void)text_format(buffer, size, "%s: the daemon does not list it yet", state);
        else if (gpu->held == HF_YES && gpu->detail.open_duration_usec != 0)
                (void)text_format(buffer, size, "%s, opened in %s", state,
                                  report_duration(gpu->detail.open_duration_usec).text);
        else if (gpu->detail.error_text[0] != '\0')
                (void)text_format(buffer, size, "%s: %s", state, gpu->detail.error_text);
        else if (snapshot->daemon == DAEMON_NVIDIA && gpu->get_status != NVPD_SUCCESS)
                (void)text_format(buffer, size, "%s: %s", state, nvpd_status_text(gpu->get_status));
        else if (gpu->held == HF_NO && gpu->in_daemon && !gpu->detail.wanted)
                (void)text_format(buffer, size, "%s: persistence mode is off; 'holdfast set on --gpu %zu' holds it",
                                  state, gpu->index);
        else
                (void)text_copy(buffer, size, state);
        return buffer;
}

static void tell_change(const struct waiting *waiting, const struct snapshot_gpu *gpu) {
        const struct snapshot_gpu *before =
                waiting->before.snapshot ? snapshot_find(waiting->before.snapshot, &gpu->info.address) : NULL;
        char now_text[HF_TEXT_SIZE + 96], before_text[HF_TEXT_SIZE + 96] = "";

        (void)describe(waiting->now.snapshot, gpu, now_text, sizeof(now_text));
        if (before && snapshot_has_daemon(waiting->before.snapshot))
                (void)describe(waiting->before.snapshot, before, before_text, sizeof(before_text));
        if (!text_equal(now_text, before_text))
                printf("%s: %s\n", gpu->label, now_text);
}

static void tell_lines(const struct waiting *waiting) {
        const struct look *now = &waiting->now;

        if (now->problem[0] != '\0' && !text_equal(now->problem, waiting->before.problem))
                printf("waiting: %s\n", now->problem);
        each_selected(gpu, now->snapshot)
                tell_change(waiting, gpu);
}

/* One sign for each GPU that is waited for: "[##!#>>..]". */
static void append_bar(const struct look *now, char *line, size_t size) {
        static const struct {
                const char *state;
                char sign;
        } signs[] = {
                /* clang-format off */
                {"closing", '<'},
                {"failed", '!'},
                {"held", '#'},
                {"opening", '>'},
                {"stuck", '!'},
                /* clang-format on */
        };

        text_append(line, size, " [");
        each_selected(gpu, now->snapshot) {
                char sign = '.';

                for (size_t i = 0; i < ARRAY_SIZE(signs); i++)
                        if (text_equal(signs[i].state, snapshot_state(now->snapshot, gpu)))
                                sign = signs[i].sign;
                text_append(line, size, "%c", sign);
        }
        text_append(line, size, "]");
}

/* "; opening 4,5,6; failed 2": the first GPU in a state names all in that state. */
static void append_missing(const struct look *now, char *line, size_t size) {
        each_selected(gpu, now->snapshot) {
                const char *state = snapshot_state(now->snapshot, gpu);
                char indices[256] = "";
                const struct snapshot_gpu *first = NULL;

                each_selected(other, now->snapshot) {
                        if (other->held == HF_YES || !text_equal(snapshot_state(now->snapshot, other), state))
                                continue;
                        first = first ? first : other;
                        text_add_item(indices, ",", "%zu", other->index);
                }
                if (first == gpu)
                        text_append(line, size, "; %s %s", state, indices);
        }
}

/* Cut to the terminal's width: a line that wraps could not be written over. */
static void tell_terminal(const struct waiting *waiting) {
        const struct look *now = &waiting->now;
        size_t width = report_style_of(stdout).width;
        char line[512] = "";

        text_add(line, "%zu of %zu GPUs held", now->n_held, now->n_needed);
        if (now->n_needed > 0)
                append_bar(now, line, sizeof(line));
        text_add(line, " %.1f s", (double)(clock_monotonic_usec() - waiting->start_usec) / (double)USEC_PER_SEC);
        append_missing(now, line, sizeof(line));
        if (now->problem[0] != '\0')
                text_add(line, "; %s", now->problem);
        printf("\r\033[K%.*s", width > 0 && width <= sizeof(line) ? (int)width - 1 : (int)sizeof(line), line);
}

static void tell(const struct waiting *waiting) {
        if (chosen.json)
                return;
        if (waiting->terminal)
                tell_terminal(waiting);
        else
                tell_lines(waiting);
        (void)fflush(stdout);
}

/* ---- the end -------------------------------------------------------------------------------------------------- */

static int status_of(const struct look *look) {
        if (look->done)
                return STATUS_DONE;
        return snapshot_has_daemon(look->snapshot) ? STATUS_FAILED : STATUS_NO_DAEMON;
}

static void end_in_text(const struct waiting *waiting) {
        const struct look *now = &waiting->now;
        const struct report_text elapsed = report_duration(clock_monotonic_usec() - waiting->start_usec);

        if (waiting->terminal)
                printf("\r\033[K");
        if (now->done && now->n_needed == 0)
                puts("the daemon wants to hold no GPU: nothing to wait for");
        else if (now->done)
                printf("%zu of %zu GPUs held after %s\n", now->n_held, now->n_needed, elapsed.text);
        else if (now->problem[0] != '\0')
                (void)complain(waiting->invocation, STATUS_FAILED, "given up after %s: %s", elapsed.text, now->problem);
        else
                (void)complain(waiting->invocation, STATUS_FAILED, "given up after %s: %zu of %zu GPUs held%s",
                               elapsed.text, now->n_held, now->n_needed,
                               now->n_held == now->n_needed ? ", and the daemon is still starting" : "; missing:");
}

static void name_missing(const struct waiting *waiting) {
        const struct look *now = &waiting->now;

        each_selected(gpu, now->snapshot) {
                char text[HF_TEXT_SIZE + 96];

                if (gpu->held != HF_YES)
                        complain_detail("%s: %s", gpu->label, describe(now->snapshot, gpu, text, sizeof(text)));
        }
}

static json_t *missing_json(const struct look *look) {
        json_t *missing = json_array();

        each_selected(gpu, look->snapshot) {
                char text[HF_TEXT_SIZE + 96];

                if (gpu->held != HF_YES)
                        (void)json_array_append_new(
                                missing, json_pack("{s:I, s:s, s:s, s:s}", "index", (json_int_t)gpu->index, "address",
                                                   gpu->address, "state", snapshot_state(look->snapshot, gpu), "reason",
                                                   describe(look->snapshot, gpu, text, sizeof(text))));
        }
        return missing;
}

static int end_in_json(const struct waiting *waiting) {
        const struct look *now = &waiting->now;
        const char *outcome = now->done ? "held" : snapshot_has_daemon(now->snapshot) ? "timeout" : "no-daemon";
        int status = command_print_json(
                waiting->invocation,
                json_pack("{s:s, s:s, s:f, s:I, s:I, s:o, s:o}", "schema", "holdfast.wait/1", "outcome", outcome,
                          "elapsed_ms", (double)(clock_monotonic_usec() - waiting->start_usec) / (double)USEC_PER_MSEC,
                          "needed", (json_int_t)now->n_needed, "held", (json_int_t)now->n_held, "missing",
                          missing_json(now), "error", report_json_text(now->problem)));

        return status == STATUS_DONE ? status_of(now) : status;
}

static int end(const struct waiting *waiting) {
        if (chosen.json)
                return end_in_json(waiting);
        end_in_text(waiting);
        if (!waiting->now.done)
                name_missing(waiting);
        return status_of(&waiting->now);
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

/*
 * Waits until our daemon reports a change, or for a limited time: for a tick on a terminal, since the line shows the
 * elapsed time, and while the lists of driver and daemon differ. Returns false if no such daemon answers.
 */
static bool wait_for_change(const struct waiting *waiting) {
        const struct snapshot *snapshot = waiting->now.snapshot;
        uint64_t left_usec = clock_left_usec(waiting->deadline_usec);
        uint64_t limit_usec = waiting->terminal || is_unlisted(&waiting->now) ? TICK_USEC : WATCH_USEC;
        CLEANUP(client_done) struct client *client = NULL;
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;
        int r;

        if (snapshot->daemon != DAEMON_HOLDFAST)
                return false;
        r = client_connect(&client, snapshot->daemon_socket, left_usec < limit_usec ? left_usec : limit_usec);
        if (r == 0)
                r = client_watch(client, snapshot->head.serial, &head, &gpus);
        return r == 0 || r == -ETIMEDOUT;
}

static void pause_until_next(const struct waiting *waiting) {
        uint64_t left_usec = clock_left_usec(waiting->deadline_usec);

        clock_sleep(left_usec < POLL_USEC ? left_usec : POLL_USEC);
}

static int run(const struct invocation *invocation) {
        CLEANUP(waiting_done)
        struct waiting waiting = {
                .invocation = invocation,
                .start_usec = clock_monotonic_usec(),
                .deadline_usec = clock_deadline_usec(chosen.timeout_usec),
                .terminal = isatty(STDOUT_FILENO) == 1,
        };

        for (;;) {
                int r = look_again(&waiting);

                if (r == -ENOMEM)
                        return complain_memory(invocation);
                if (r == -EINVAL)
                        return complain_usage(invocation, "%s", waiting.now.problem);
                tell(&waiting);
                if (waiting.now.done || clock_left_usec(waiting.deadline_usec) == 0 || ferror(stdout))
                        return end(&waiting);
                if (!wait_for_change(&waiting))
                        pause_until_next(&waiting);
        }
}

const struct command wait_command = {
        .name = "wait",
        .summary = "return when the GPUs are held, showing progress",
        .description = "Waits until the daemon answers and every GPU that it wants to hold is held (with\n"
                       "NVIDIA's daemon: every GPU). Prints a line for each change, or on a terminal one\n"
                       "line that it updates.",
        .examples = "  holdfast wait --timeout 60 && srun ...\n"
                    "  ExecStartPre=/usr/bin/holdfast wait --timeout 120",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .run = run,
};
