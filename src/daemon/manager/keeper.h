#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The keeper: a process of the same program that holds a copy of every GPU descriptor, so that a daemon that restarts,
 * is upgraded or killed is not the last to close it. It knows names and descriptors and nothing else: it opens nothing,
 * and what it closes it closes on a thread for each, since the last close(2) of a GPU is the driver's teardown, which
 * may take seconds or never return. So the only processes that are ever the last holder of a GPU are ours
 * (decision 12); the service manager never is.
 *
 *      systemd          holdfast-keeper.socket and holdfast-keeper.service: a restart of the daemon does not touch it
 *      SysV, OpenRC,    the daemon forks it (keeper_link.c); it outlives the daemon
 *      runit, ...
 *      a pod            a second container: nvidia-persistenced --keeper
 *
 * Without a daemon it waits so long as the last one said, for the next; then it closes everything. TERM, INT and USR1
 * close everything at once and end it. One that a daemon has forked then removes what that one left if it was killed:
 * while its socket is there NVML asks nobody else.
 */

#include <stdbool.h>

/* Where the service manager's keeper listens, or a container's: not in the runtime directory, which units remove. */
#define KEEPER_PATH "/run/holdfast/keeper"
/* In the runtime directory: where one listens that a daemon has forked. */
#define KEEPER_FORKED_NAME "keeper"

struct keeper_config {
        int listen_fd;         /* SOCK_DGRAM, bound: daemons call there; the keeper's from now on */
        const char *directory; /* the runtime directory, if it is there to be tidied up; NULL: it is not */
        bool ends_idle;        /* ends when it keeps nothing and no daemon is connected; otherwise only by a signal */
        bool sandbox;          /* filters its own system calls */
};

/*
 * Binds a socket for a keeper at path, which only our own user may call. What is at path is
 * replaced. Returns the descriptor, or negative errno (logged).
 */
int keeper_listen(const char *path);

/* Keeps, until there is nothing to keep or a signal comes. Returns the process' exit status. */
int keeper_run(const struct keeper_config *config);
