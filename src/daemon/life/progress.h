#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Reports the daemon's progress to the service manager (manager/notify.h): requests more time while GPUs start; reports
 * readiness, the number of held GPUs, reloads and the stop; and feeds the watchdog while the loop runs.
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "daemon/gpus/registry.h"

struct progress {
        const struct registry *registry;
        uint64_t reload_usec; /* RELOADING=1 is due, with this time, and was not sent yet; 0: it is not due */
        bool owes_watchdog;   /* WATCHDOG=1 could not be sent */
        bool owes_ready;      /* READY=1 is due, and was not sent yet */
        struct event *retry;  /* pending if the last message could not be sent */
        struct event *extend; /* pending until the registry is ready */
        struct event *watchdog;
        bool stopping;
};

/* watchdog_usec: the period of the watchdog messages; 0: none. Returns 0 or -ENOMEM (logged). */
int progress_init(struct progress *progress, struct event_base *loop, const struct registry *registry,
                  uint64_t watchdog_usec);
void progress_done(struct progress *progress);

/* Call this when a GPU changed. */
void progress_tell(struct progress *progress);
/* Call this when the registry is ready. */
void progress_ready(struct progress *progress);
void progress_reloading(struct progress *progress);
void progress_reloaded(struct progress *progress);
void progress_stopping(struct progress *progress);
