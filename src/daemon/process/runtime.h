#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The daemon's files: /var/run/nvidia-persistenced/ with the socket and the locked pid file. Other programs depend on
 * these names (docs/protocol.md). With another root directory they are in <root>/run.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/locations.h"

struct runtime {
        char *directory;
        char *socket;
        char *pid_file;
        char *uevents;       /* socket for the uevents of a simulated driver (daemon/gpus/hotplug.h) */
        int pid_fd;          /* holds the lock; -1: none */
        bool in_unit;        /* a unit has started us */
        bool removes_socket; /* remove the socket at the end; false: the service manager owns it, or --keep-socket */
};

/* Builds the paths. Returns 0 or -ENOMEM (logged). Call runtime_done() in either case. */
int runtime_init(struct runtime *runtime, const struct locations *locations, bool in_unit);

/*
 * Creates the directory (0755) if it is missing, and gives it to uid and gid ((uid_t)-1: unchanged). As root, also
 * gives an existing directory of another user to them. Returns 0, or negative errno (logged).
 */
int runtime_make_directory(const struct runtime *runtime, uid_t uid, gid_t gid);

/*
 * Locks the pid file, writes our pid into it, and logs "Started (PID)". Returns 0, -EBUSY if another daemon runs, or
 * other negative errno (logged).
 */
int runtime_lock(struct runtime *runtime);

/* Removes the pid file and, if removes_socket, the socket; logs "Shutdown (PID)". Does nothing without the lock. */
void runtime_unlock(struct runtime *runtime);

/* Frees the paths. */
void runtime_done(struct runtime *runtime);
