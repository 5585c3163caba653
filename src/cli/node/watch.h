#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Waiting for news of all kinds at once: of our daemon, by RPC Watch; of the terminal's size; of the end. What tells
 * nothing (NVIDIA's daemon, clients of GPUs) is to be looked at again after a pause.
 */

#include "cli/node/snapshot.h"
#include "client/client.h"

enum watch_news {
        WATCH_PAUSED,  /* none: the pause is over */
        WATCH_CHANGED, /* the daemon has another list, or is gone */
        WATCH_RESIZED,
        WATCH_ENDED, /* a signal asks us to stop, or nobody reads our output any more */
};

struct watch {
        int signal_fd;
        struct client *client; /* with a Watch call on its way, or NULL */
        uint64_t retry_usec;   /* no new connection before then */
};

/* From now on the signals are kept for watch_wait(). Returns 0 or negative errno. */
int watch_init(struct watch *watch);
void watch_done(struct watch *watch);

/* Waits for news since `seen`, at most so long. */
enum watch_news watch_wait(struct watch *watch, const struct snapshot *seen, uint64_t pause_usec);
