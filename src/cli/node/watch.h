#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Waits for several kinds of news at once: of our daemon, by RPC Watch; of the terminal's size; of a signal to stop.
 * What reports no changes (NVIDIA's daemon, clients of GPUs) is looked at again after a pause.
 */

#include "cli/node/snapshot.h"
#include "client/client.h"

enum watch_news {
        WATCH_PAUSED,  /* none: the pause is over */
        WATCH_CHANGED, /* the daemon has another list, or is gone */
        WATCH_RESIZED,
        WATCH_ENDED, /* a signal asks us to stop, or the reader of our output has closed it */
};

struct watch {
        int signal_fd;
        struct client *client; /* with a Watch call on its way, or NULL */
        uint64_t retry_usec;   /* no new connection before then */
};

/* Blocks the signals, for watch_wait(). Returns 0 or negative errno. */
int watch_init(struct watch *watch);
void watch_done(struct watch *watch);

/* Waits for news since `seen` was taken, at most for the pause. */
enum watch_news watch_wait(struct watch *watch, const struct snapshot *seen, uint64_t pause_usec);
