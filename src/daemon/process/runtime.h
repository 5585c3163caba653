#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What the daemon leaves in the file system: /var/run/nvidia-persistenced/ with the socket and the locked pid file. The
 * names are a contract (docs/protocol.md); with a root they are below <root>/run.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/locations.h"

struct runtime {
        char *directory;
        char *socket;
        char *pid_file;
        char *uevents;       /* a simulated driver's uevents (daemon/gpus/hotplug.h) */
        int pid_fd;          /* holds the lock; -1: none */
        bool in_unit;        /* a unit has started us */
        bool removes_socket; /* at the end; otherwise it is the service manager's, or to be kept */
};

/* Makes the paths. Returns 0 or -ENOMEM (logged). */
int runtime_init(struct runtime *runtime, const struct locations *locations, bool in_unit);

/* Makes the directory (0755) if it is missing, and then gives it to uid and gid ((uid_t)-1: left alone). Logs errors.
 */
int runtime_make_directory(const struct runtime *runtime, uid_t uid, gid_t gid);

/* Locks the pid file and writes our pid into it. -EBUSY: another daemon runs. Logs errors, and "Started (PID)". */
int runtime_lock(struct runtime *runtime);

/* Removes the pid file, and the socket if it is ours: "Shutdown (PID)". Does nothing without the lock. */
void runtime_unlock(struct runtime *runtime);

/* Frees the paths. */
void runtime_done(struct runtime *runtime);
