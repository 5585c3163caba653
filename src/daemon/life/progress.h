#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * How far we are, as the service manager is told it (manager/notify.h): more time while GPUs start, ready, how many are
 * held, a reload, the stop, and that the loop turns (the watchdog).
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "daemon/gpus/registry.h"

struct progress {
        const struct registry *registry;
        struct event *extend; /* pending until READY=1 was sent */
        struct event *watchdog;
        bool stopping;
};

/* watchdog_usec: the period that the manager wants; 0: none. Returns 0 or -ENOMEM (logged). */
int progress_init(struct progress *progress, struct event_base *loop, const struct registry *registry,
                  uint64_t watchdog_usec);
void progress_done(struct progress *progress);

/* Something changed. */
void progress_tell(const struct progress *progress);
/* The registry is ready. */
void progress_ready(struct progress *progress);
void progress_reloading(const struct progress *progress);
void progress_reloaded(const struct progress *progress);
void progress_stopping(struct progress *progress);
