#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The keeper: a process of the same program that holds a copy of every GPU descriptor, so that no GPU is torn down when
 * the daemon restarts, is upgraded or is killed. It knows only names and descriptors, and opens no device. It closes
 * each descriptor on its own thread, since the last close(2) of a GPU runs the driver's teardown, which may take
 * seconds or never return. So only our own processes are ever the last holder of a GPU (decision 12), never the service
 * manager.
 *
 *      systemd          holdfast-keeper.socket and holdfast-keeper.service: a restart of the daemon does not touch it
 *      SysV, OpenRC,    the daemon forks it (keeper_link.c); it outlives the daemon
 *      runit, ...
 *      a pod            a second container: nvidia-persistenced --keeper
 *
 * Without a daemon it waits for the next one, as long as the last one said (KEEPER_WAIT); then it closes everything. On
 * TERM, INT and USR1 it closes everything at once and ends. A keeper that a daemon has forked also removes the files of
 * a daemon that was killed: while a daemon's socket exists, NVML tries no other way to set persistence mode.
 */

#include <stdbool.h>

/*
 * Where the keeper of a service manager or a container listens. Not in the runtime directory, since units remove that.
 */
#define KEEPER_PATH "/run/holdfast/keeper"
/* The socket in the runtime directory where a keeper that a daemon has forked listens. */
#define KEEPER_FORKED_NAME "keeper"

struct keeper_config {
        int listen_fd;         /* a bound SOCK_DGRAM socket that daemons call; the keeper owns it */
        const char *directory; /* the runtime directory, where files of a killed daemon are removed; NULL: nowhere */
        bool ends_idle;        /* end when nothing is kept and no daemon is connected; false: only by a signal */
        bool sandbox;          /* filter its own system calls */
};

/*
 * Binds a socket for a keeper at path, replacing a file there. Only our own user and root may send to it. Returns the
 * descriptor, or negative errno (logged).
 */
int keeper_listen(const char *path);

/* Runs the keeper to its end. Returns the exit status of the process. */
int keeper_run(const struct keeper_config *config);
