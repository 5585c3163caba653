/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast status: the table of GPUs. */

#include "cli/commands/status.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/report/report.h"

static struct status_options status_options = {
        .timeout_usec = 5 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_GPU(struct status_options, "only this GPU; may be given several times"),
        OPTION_JSON(struct status_options, "print JSON (docs/schemas/status.json)"),
        OPTION_TIMEOUT(struct status_options, "wait that long for the daemon's answer (default 5)"),
        {
                .name = "watch",
                .letter = 'w',
                .help = "show it again with every change, until Ctrl-C: in its place on a terminal, else below with "
                        "the time; with --json an object a line",
                .kind = OPTION_FLAG,
                .offset = offsetof(struct status_options, watch),
        },
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "the state is told, whatever it is; with --watch also when told to stop"},
        {STATUS_FAILED, "nothing can be told: there is neither a driver nor a daemon"},
        {STATUS_USAGE, "wrong usage"},
        {STATUS_NO_GPU, "no such GPU"},
        {0},
};

/* Here "all" includes what the administrator excluded: it is to be seen. */
int status_select(const struct ids *gpus, const struct snapshot *snapshot, bool **ret_selected, char *error,
                  size_t error_size) {
        CLEANUP(free_ptr) bool *selected = calloc(snapshot->n_gpus + 1, sizeof(*selected));
        int r = 0;

        if (!selected) {
                (void)text_copy(error, error_size, "out of memory");
                return -ENOMEM;
        }
        for (size_t i = 0; i < snapshot->n_gpus; i++)
                selected[i] = true;
        if (gpus->n > 0)
                r = ids_resolve(gpus, snapshot, selected, error, error_size);
        if (r < 0)
                return r;
        *ret_selected = take_ptr(selected);
        return 0;
}

int status_of_selection(int error) {
        if (error == -ENOMEM)
                return STATUS_FAILED;
        return error == -EINVAL ? STATUS_USAGE : STATUS_NO_GPU;
}

static int print(const struct invocation *invocation, const struct snapshot *snapshot) {
        const struct status_options *chosen = invocation->options;
        CLEANUP(free_ptr) bool *selected = NULL;
        struct report_style style = report_style_of(stdout);
        char error[192];
        int r;

        r = status_select(&chosen->gpus, snapshot, &selected, error, sizeof(error));
        if (r < 0)
                return complain(invocation, status_of_selection(r), "%s", error);
        r = chosen->json ? report_json_print(report_json(snapshot, selected), stdout)
                         : report_text(snapshot, selected, &style, stdout);
        return r < 0 ? complain_memory(invocation, STATUS_FAILED) : STATUS_DONE;
}

static int run(const struct invocation *invocation) {
        const struct status_options *chosen = invocation->options;
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        char nothing[REPORT_NOTHING_SIZE];

        if (chosen->watch)
                return status_watch(invocation);
        if (command_look(invocation, STATUS_SNAPSHOT, chosen->timeout_usec, &snapshot) < 0)
                return STATUS_FAILED;
        if (!snapshot_is_empty(snapshot))
                return print(invocation, snapshot);
        if (chosen->json)
                (void)report_json_print(report_json(snapshot, NULL), stdout);
        return complain(invocation, STATUS_FAILED, "%s",
                        report_nothing(snapshot, invocation->locations, nothing, sizeof(nothing)));
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
        .defaults = &status_options,
        .run = run,
};
