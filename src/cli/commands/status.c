/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast status: the table of GPUs. */

#include "cli/commands/status.h"

#include "base/cleanup.h"
#include "base/clock.h"
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

int status_select(const struct ids *gpus, struct snapshot *snapshot, char *error, size_t error_size) {
        if (gpus->n > 0)
                return ids_select(gpus, snapshot, error, error_size);
        each_gpu(gpu, snapshot)
                gpu->selected = true;
        return 0;
}

static int print(const struct invocation *invocation, const struct snapshot *snapshot) {
        const struct status_options *chosen = invocation->options;
        struct report_style style = report_style_of(stdout);

        if (chosen->json)
                return command_print_json(invocation, report_json(snapshot));
        return report_text(snapshot, &style, stdout) < 0 ? complain_memory(invocation) : STATUS_DONE;
}

static int run(const struct invocation *invocation) {
        const struct status_options *chosen = invocation->options;
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        int status;

        if (chosen->watch)
                return status_watch(invocation);
        status = command_look(invocation, STATUS_SNAPSHOT, chosen->timeout_usec, &snapshot);
        if (status == STATUS_DONE && chosen->json && snapshot_is_empty(snapshot))
                (void)command_print_json(invocation, report_json(snapshot));
        if (status == STATUS_DONE)
                status = command_select(invocation, &chosen->gpus, STATUS_FAILED, snapshot);
        if (status != STATUS_DONE)
                return status;
        (void)status_select(&chosen->gpus, snapshot, NULL, 0);
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
        .defaults = &status_options,
        .run = run,
};
