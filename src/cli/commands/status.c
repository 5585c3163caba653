/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast status: the table of GPUs, once or again and again. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/node/watch.h"
#include "cli/report/report.h"
#include "cli/report/screen.h"

enum {
        PARTS_OF_SNAPSHOT = SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS | SNAPSHOT_MODE,
};

static struct status_options {
        struct ids gpus;
        bool json;
        uint64_t timeout_usec;
        bool watch;
} chosen = {
        .timeout_usec = 5 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_GPU(struct status_options, "only this GPU; may be given several times"),
        OPTION_JSON(struct status_options, "print JSON (docs/schemas/status.json)"),
        OPTION_TIMEOUT(struct status_options, "wait that long for the daemon's answer (default 5)"),
        OPTION_LETTER(struct status_options, watch, "watch", 'w',
                      "print it again after every change, until Ctrl-C; with --json one object on each line"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "the state was printed, whatever it is; with --watch also when stopped by a signal"},
        {STATUS_FAILED, "no information: there is neither a driver nor a daemon"},
        {STATUS_USAGE, "wrong usage"},
        {STATUS_NO_GPU, "no such GPU"},
        {0},
};

/* As ids_select(), but "all" includes GPUs that are excluded from the driver. */
static int status_select(const struct ids *gpus, struct snapshot *snapshot, char *error, size_t error_size) {
        if (gpus->n > 0)
                return ids_select(gpus, snapshot, error, error_size);
        each_gpu(gpu, snapshot)
                gpu->selected = true;
        return 0;
}

/* ---- again and again ------------------------------------------------------------------------------------------- */

/*
 * holdfast status --watch: looks again when there is news, and shows the picture if it has changed.
 *
 *      look --> render --> differs? --> show --> wait for news --+
 *       ^                                                        |
 *       +--------------------------------------------------------+
 */

#define PAUSE_USEC (2 * USEC_PER_SEC) /* between looks, for changes that nobody reports to us */

/* The driver's list is read again after so many looks without news. Not more often, since the driver logs a line for
 * each read of a GPU that was never used. */
enum { INVENTORY_PERIOD = 30 };

struct watching {
        const struct invocation *invocation;
        struct watch watch;
        struct screen screen;
        bool terminal; /* drawn in place */
        struct snapshot *now;
        const char *event; /* what the last look found, in words */
        char *picture;     /* as shown last; NULL at first */
        const char *shown_event;
        uint64_t shown_usec; /* realtime */
        size_t looks;        /* since the driver's list was read */
};

static void watching_done(struct watching *watching) {
        watch_done(&watching->watch);
        snapshot_done(&watching->now);
        free(watching->picture);
}

/* ---- looking -------------------------------------------------------------------------------------------------- */

static const char *describe_event(const struct snapshot *before, const struct snapshot *now) {
        if (!snapshot_has_daemon(now))
                return before && snapshot_has_daemon(before) ? "daemon gone, waiting" : "no daemon, waiting";
        if (!before)
                return "watching";
        if (!snapshot_has_daemon(before))
                return "daemon is there";
        return before->daemon_pid != now->daemon_pid ? "another daemon" : "changed";
}

static int look_once(struct watching *watching, const struct snapshot *inventory) {
        const struct snapshot_request request = {
                .locations = watching->invocation->locations,
                .flags = PARTS_OF_SNAPSHOT,
                .timeout_usec = chosen.timeout_usec,
                .inventory = inventory,
        };
        struct snapshot *now;
        int r;

        r = snapshot_read(&request, &now);
        if (r < 0)
                return r;
        watching->event = describe_event(watching->now, now);
        snapshot_done(&watching->now);
        watching->now = now;
        watching->looks = inventory ? watching->looks + 1 : 0;
        return 0;
}

/* After news of the daemon, the driver's list is read again too. */
static int look(struct watching *watching, enum watch_news news) {
        bool anew = !watching->now || news == WATCH_CHANGED || watching->looks >= INVENTORY_PERIOD;
        enum snapshot_daemon before = watching->now ? watching->now->daemon : DAEMON_NONE;
        int r;

        r = look_once(watching, anew ? NULL : watching->now);
        if (r == 0 && !anew && watching->now->daemon != before)
                watching->looks = INVENTORY_PERIOD; /* for the next look: a new daemon has listed its GPUs by then */
        return r;
}

/* ---- rendering ------------------------------------------------------------------------------------------------ */

static int render_json(const struct watching *watching, char **ret_picture) {
        json_t *document = report_json(watching->now);

        *ret_picture = document ? json_dumps(document, JSON_COMPACT) : NULL;
        json_decref(document);
        return *ret_picture ? 0 : -ENOMEM;
}

static int print_text(const struct watching *watching, const char *problem, FILE *stream) {
        struct report_style style = report_style_of(stdout);
        char nothing[REPORT_NOTHING_SIZE];

        if (problem)
                text_wrap(stream, problem, 0, 0, style.width);
        else if (snapshot_is_empty(watching->now))
                text_wrap(stream,
                          report_nothing(watching->now, watching->invocation->locations, nothing, sizeof(nothing)), 0,
                          0, style.width);
        else if (report_text(watching->now, &style, stream) < 0)
                return -ENOMEM;
        if (watching->now->daemon == DAEMON_NVIDIA)
                text_wrap(stream, "note: NVIDIA's daemon does not report changes, so it is asked every 2 s.", 0, 2,
                          style.width);
        return 0;
}

static int render_text(const struct watching *watching, const char *problem, char **ret_picture) {
        CLEANUP(free_ptr) char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);
        int r;

        if (!stream)
                return -ENOMEM;
        r = print_text(watching, problem, stream);
        if (fclose(stream) != 0 || r < 0)
                return -ENOMEM;
        *ret_picture = take_ptr(text);
        return 0;
}

/* A named GPU may be removed and come back: -ENODEV is an error only in the first picture. */
static int render(const struct watching *watching, char **ret_picture, char *error, size_t error_size) {
        int r = status_select(&chosen.gpus, watching->now, error, error_size);

        if (r < 0 && (r != -ENODEV || (!watching->picture && !snapshot_is_empty(watching->now))))
                return r;
        if (!chosen.json)
                return render_text(watching, r < 0 ? error : NULL, ret_picture);
        each_gpu(gpu, watching->now)
                gpu->selected &= r == 0;
        return render_json(watching, ret_picture);
}

/* ---- showing -------------------------------------------------------------------------------------------------- */

/* The time is not part of the picture, or each would differ from the one before. */
static int show_json(struct watching *watching) {
        printf("{\"time\":\"%s\",%s\n", report_time_utc(watching->shown_usec).text, watching->picture + 1);
        return 0;
}

static int show_below(struct watching *watching) {
        printf("%s  %s\n%s\n", report_time_local(watching->shown_usec).text, watching->shown_event, watching->picture);
        return 0;
}

static int show_in_place(struct watching *watching) {
        CLEANUP(free_ptr) char *text = NULL;

        if (asprintf(&text, "%s\n%s  %s (Ctrl-C ends it)\n", watching->picture,
                     report_time_local(watching->shown_usec).text, watching->shown_event) < 0) {
                text = NULL; /* undefined after an error of asprintf() */
                return -ENOMEM;
        }
        screen_draw(&watching->screen, text);
        return 0;
}

/* After a change of the terminal's size the same is drawn again. */
static int show(struct watching *watching, char *picture, enum watch_news news) {
        bool same = watching->picture && text_equal(watching->picture, picture);
        int r;

        free(watching->picture);
        watching->picture = picture;
        if (news == WATCH_RESIZED && watching->terminal)
                screen_clear(&watching->screen);
        else if (same)
                return 0;
        if (news != WATCH_RESIZED) {
                watching->shown_event = watching->event;
                watching->shown_usec = clock_realtime_usec();
        }
        r = chosen.json ? show_json(watching) : watching->terminal ? show_in_place(watching) : show_below(watching);
        (void)fflush(stdout);
        return r;
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

static int turn(struct watching *watching, enum watch_news news) {
        char *picture, error[192] = "out of memory";
        int r;

        r = news == WATCH_RESIZED ? 0 : look(watching, news);
        if (r == 0)
                r = render(watching, &picture, error, sizeof(error));
        if (r == 0)
                r = show(watching, picture, news);
        if (r == 0)
                return STATUS_DONE;
        return complain(watching->invocation,
                        r == -ENOMEM   ? STATUS_FAILED
                        : r == -EINVAL ? STATUS_USAGE
                                       : STATUS_NO_GPU,
                        "%s", error);
}

static int status_watch(const struct invocation *invocation) {
        CLEANUP(watching_done)
        struct watching watching = {
                .invocation = invocation,
                .screen = {.stream = stdout},
                .terminal = !chosen.json && report_style_of(stdout).redraws,
        };
        enum watch_news news = WATCH_PAUSED;
        int r, status;

        r = watch_init(&watching.watch);
        if (r < 0)
                return complain(invocation, STATUS_FAILED, "cannot wait for signals: %s", strerror(-r));
        do {
                status = turn(&watching, news);
                if (status != STATUS_DONE || ferror(stdout))
                        return status;
                news = watch_wait(&watching.watch, watching.now, PAUSE_USEC);
        } while (news != WATCH_ENDED);
        return STATUS_DONE;
}

/* ---- once ----------------------------------------------------------------------------------------------------- */

static int print(const struct invocation *invocation, const struct snapshot *snapshot) {
        struct report_style style = report_style_of(stdout);

        if (chosen.json)
                return command_print_json(invocation, report_json(snapshot));
        return report_text(snapshot, &style, stdout) < 0 ? complain_memory(invocation) : STATUS_DONE;
}

static int run(const struct invocation *invocation) {
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        int status;

        if (chosen.watch)
                return status_watch(invocation);
        status = command_look(invocation, PARTS_OF_SNAPSHOT, chosen.timeout_usec, &snapshot);
        /* Without driver and daemon, --json prints a document too. Then command_select() prints the error and returns
         * the exit status. */
        if (status == STATUS_DONE && chosen.json && snapshot_is_empty(snapshot))
                (void)command_print_json(invocation, report_json(snapshot));
        if (status == STATUS_DONE)
                status = command_select(invocation, &chosen.gpus, STATUS_FAILED, snapshot);
        if (status != STATUS_DONE)
                return status;
        (void)status_select(&chosen.gpus, snapshot, NULL, 0); /* with the excluded GPUs */
        return print(invocation, snapshot);
}

const struct command status_command = {
        .name = "status",
        .summary = "show each GPU's mode, its state, and who holds it",
        .description = "Shows every GPU: persistence mode, state, since when, how long the driver took\n"
                       "to open it, and who keeps it initialised: the daemon, the kernel's own flag,\n"
                       "other processes. Below the table: what failed, and why. Opens no GPU.",
        .examples = "  holdfast\n"
                    "  holdfast status --gpu 0,3\n"
                    "  holdfast status --watch\n"
                    "  holdfast status --json | jq '.gpus[] | select(.held | not) | .address'",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .run = run,
};
