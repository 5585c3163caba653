#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A process that applies one GPU's settings and then runs the hooks. It can be given up, since it may hang with the
 * driver. Its results arrive as lines of JSON.
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
        int fd;             /* for poll(); -1 once it has ended or was given up */
        bool applying;      /* has not reported about the settings; if it has ended, it never will */
        uint64_t hook_usec; /* for each hook */
        uint64_t deadline_usec;
        size_t length;
        char bytes[WORKER_LINE_MAX];
};

/* Starts it; apply, call: NULL for no settings, no hooks. Returns 0 or negative errno. */
int settings_worker_start(struct settings_worker *worker, const struct apply *apply, const struct hook_call *call);

/* The next line that has arrived, a new reference; or NULL. */
json_t *settings_worker_next(struct settings_worker *worker);

/* Kills it. If it hangs in the driver it stays until the driver returns. */
void settings_worker_kill(struct settings_worker *worker);

/* Whether it is gone, and another may be started. */
bool settings_worker_is_gone(struct settings_worker *worker);

/* Starts a worker for the settings alone. Returns its result, or NULL after the time limit. */
json_t *settings_worker_apply(const struct apply *apply);
