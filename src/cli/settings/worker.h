#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A process that applies one GPU's settings and then runs the hooks, and that can be given up: it may hang with the
 * driver. What comes of it arrives in JSON, a line each.
 *
 *      this process                         worker
 *        <--- {"settings": [...]} -------   NVML: compares, changes, reads back
 *        <--- {"name": ..., "event": ...}   a hook
 *        <--- ...
 */

#include <stdint.h>
#include <sys/types.h>

#include "cli/settings/apply.h"
#include "cli/settings/hooks.h"

enum {
        WORKER_APPLY_SEC = 30, /* for the settings */
        WORKER_LINE_MAX = 16384,
};

struct settings_worker {
        pid_t pid;          /* 0: there is none */
        int fd;             /* to be polled; -1 once it has ended or was given up */
        bool applying;      /* its settings are still to come; once it has ended, they never do */
        uint64_t hook_usec; /* for each hook */
        uint64_t deadline_usec;
        size_t length;
        char bytes[WORKER_LINE_MAX];
};

/* Starts it; apply, call: NULL for no settings, no hooks. Returns 0 or negative errno. */
int settings_worker_start(struct settings_worker *worker, const struct apply *apply, const struct hook_call *call);

/* The next line that has arrived, a new reference, or NULL: none yet, or none any more. */
json_t *settings_worker_next(struct settings_worker *worker);

/* Kills it. One that hangs in the driver stays until that gives it back. */
void settings_worker_kill(struct settings_worker *worker);

/* Whether it is gone, and another may be started. */
bool settings_worker_is_gone(struct settings_worker *worker);

/* Waits for the settings alone: starts a worker and returns what came of it, or NULL after the time limit. */
json_t *settings_worker_apply(const struct apply *apply);
