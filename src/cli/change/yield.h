#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Has the daemon release GPUs for a while, and hold them again whatever happens.
 *
 * With our daemon this is a lease, which ends with our connection, and so when this process ends. NVIDIA's daemon has
 * no leases: persistence mode is switched off, and on again. Without a daemon there is nothing to release.
 */

#include "cli/args/command.h"
#include "cli/node/snapshot.h"
#include "client/client.h"

struct yield {
        const struct invocation *invocation;
        const char *user;    /* what uses the GPUs meanwhile, for messages: "COMMAND" */
        const char *way_out; /* what to do instead of ending other processes: "use --force" */
        int failed_status;
        int not_held_status;
        uint64_t timeout_usec; /* for the release, and for holding again */
        bool all;              /* also GPUs that are added meanwhile */
        bool repeated;         /* one of many: signals stay blocked, and success is not reported */
        struct snapshot *snapshot;
        struct client *lease;
};

/* For CLEANUP(yield_done). Ends a lease without a message. */
void yield_done(struct yield *yield);

/* All of these return STATUS_DONE, or an exit status after a message on standard error. */

/* Takes the snapshot; selects no GPU. */
int yield_look(struct yield *yield);
/*
 * Names the processes, other than this one and the daemon, that have a selected GPU open. Without force, fails if there
 * is one, or if it cannot see all processes.
 */
int yield_check_clients(const struct yield *yield, bool force);
/* Releases the selected GPUs. Call child_keep_signals() first if a signal must not interrupt this. */
int yield_begin(struct yield *yield);
/*
 * Has each GPU held again for which yield_was_held() is true, and waits for that. May also be called after
 * yield_begin() failed.
 */
int yield_end(struct yield *yield);

/* A descriptor that becomes readable when the lease may be lost; -1: there is no lease. */
int yield_lease_fd(const struct yield *yield);
/* Once it is readable: whether a daemon answers and so may hold the GPUs again. If none answers, nothing holds them. */
bool yield_is_lost(const struct yield *yield);

/* Whether the GPU, of the yield's own snapshot, is selected and was held when that was taken. */
bool yield_was_held(const struct snapshot_gpu *gpu);
