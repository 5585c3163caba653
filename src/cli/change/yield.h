#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Yielding GPUs to somebody: the daemon lets go of them, and takes hold of them again, whatever happens.
 *
 * With our daemon it is a lease, which ends with our connection and so with us, however we end. NVIDIA's daemon knows
 * none: there persistence mode is switched off and on again. Without a daemon there is nothing to let go of.
 */

#include "cli/args/command.h"
#include "cli/node/snapshot.h"
#include "client/client.h"

struct yield {
        const struct invocation *invocation;
        const char *user;    /* for whom, as messages name it: "COMMAND" */
        const char *way_out; /* what to do when others have the GPUs open, besides ending them: "use --force" */
        int failed_status;
        int not_held_status;
        uint64_t timeout_usec; /* for letting go, and for taking hold */
        bool all;              /* GPUs that come meanwhile are meant too */
        bool repeated;         /* one of many: signals stay kept, and there is no word while all goes well */
        struct snapshot *snapshot;
        struct client *lease;
};

/* For CLEANUP(yield_done); ends what was begun without a word. */
void yield_done(struct yield *yield);

/* All of these return STATUS_DONE, or an exit status after a sentence on standard error. */

/* Fills snapshot, and selects nothing. */
int yield_look(struct yield *yield);
/* Whether processes that are neither ours nor the daemon have selected GPUs open: they are named. */
int yield_check_clients(const struct yield *yield, bool force);
/* Lets go of the selected GPUs. Call child_keep_signals() before, where nothing may be left half done. */
int yield_begin(struct yield *yield);
/* Takes hold again, and waits until the GPUs are held that were before; also after a yield_begin() that failed. */
int yield_end(struct yield *yield);

/*
 * A descriptor that is readable when the lease may be lost while its user is at work, -1 where there is none. Then
 * yield_is_lost() says whether a daemon is there that may hold the GPUs again. (One that has only ended holds nothing.)
 */
int yield_lease_fd(const struct yield *yield);
bool yield_is_lost(const struct yield *yield);

/* Whether the GPU, of the yield's own snapshot, is selected and was held when we looked. */
bool yield_was_held(const struct snapshot_gpu *gpu);
