/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast status: the table of GPUs. */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/command.h"
#include "cli/ids.h"
#include "cli/report.h"

static struct status_options {
        struct ids gpus;
        bool json;
        uint64_t timeout_usec;
} status_options = {
        .timeout_usec = 5 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_GPU(struct status_options, "only this GPU; may be given several times"),
        OPTION_JSON(struct status_options, "print JSON (docs/schemas/status.json)"),
        OPTION_TIMEOUT(struct status_options, "wait that long for the daemon's answer (default 5)"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "the state is told, whatever it is"},
        {STATUS_FAILED, "nothing can be told: there is neither a driver nor a daemon"},
        {STATUS_USAGE, "wrong usage"},
        {STATUS_NO_GPU, "no such GPU"},
        {0},
};

static int print(const struct invocation *invocation, const struct snapshot *snapshot) {
        const struct status_options *chosen = invocation->options;
        CLEANUP(free_ptr) bool *selected = calloc(snapshot->n_gpus + 1, sizeof(*selected));
        char error[192];
        int r;

        if (!selected)
                return complain(invocation, STATUS_FAILED, "out of memory");
        /* Here "all" includes what the administrator excluded: it is to be seen. */
        for (size_t i = 0; i < snapshot->n_gpus; i++)
                selected[i] = true;
        r = chosen->gpus.n > 0 ? ids_resolve(&chosen->gpus, snapshot, selected, error, sizeof(error)) : 0;
        if (r < 0)
                return complain(invocation, r == -EINVAL ? STATUS_USAGE : STATUS_NO_GPU, "%s", error);

        if (chosen->json)
                r = report_json(snapshot, selected, stdout);
        else {
                struct report_style style = report_style_of(stdout);

                r = report_text(snapshot, selected, &style, stdout);
        }
        return r < 0 ? complain(invocation, STATUS_FAILED, "out of memory") : STATUS_DONE;
}

static int run(const struct invocation *invocation) {
        const struct status_options *chosen = invocation->options;
        const struct snapshot_request request = {
                .root = invocation->root,
                .flags = SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS | SNAPSHOT_MODE,
                .timeout_usec = chosen->timeout_usec,
        };
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;

        if (snapshot_read(&request, &snapshot) < 0)
                return complain(invocation, STATUS_FAILED, "out of memory");
        if (!snapshot_is_empty(snapshot))
                return print(invocation, snapshot);
        if (chosen->json)
                (void)report_json(snapshot, NULL, stdout);
        return complain(invocation, STATUS_FAILED, "the NVIDIA driver is not loaded (no %s/proc/driver/nvidia), and %s",
                        invocation->root, snapshot->daemon_error);
}

const struct command status_command = {
        .name = "status",
        .summary = "show each GPU's mode, its state, and who holds it",
        .description = "Shows every GPU: persistence mode, state, since when, how long the driver took to\n"
                       "open it, and who keeps it initialised: the daemon, the kernel's own flag, other\n"
                       "processes. Below the table: what failed, and why. Opens no GPU.",
        .examples = "  holdfast\n"
                    "  holdfast status --gpu 0,3\n"
                    "  holdfast status --json | jq '.gpus[] | select(.held | not) | .address'",
        .options = options,
        .exits = exits,
        .defaults = &status_options,
        .run = run,
};
