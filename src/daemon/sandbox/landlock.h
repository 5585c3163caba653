#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Landlock (Linux 5.13): limits the process to files below given paths, whatever its user and capabilities permit. It
 * matters most for a daemon that runs as root.
 *
 * Newer kernels can limit more. We use everything that the running kernel supports, according to its version
 * (landlock(7)):
 *
 *      1 (5.13)   reading, writing, making and removing files, executing
 *      2 (5.19)   moving files from folder to folder
 *      3 (6.2)    truncating them
 *      4 (6.7)    TCP
 *      5 (6.10)   ioctl() of devices
 *      6 (6.12)   abstract Unix sockets of other processes, signals to them
 *
 * It also prevents us from tracing other processes. It does not limit descriptors that are already open, connections to
 * sockets with a path, or reading names, owners and modes (stat(2)).
 */

#include <stdint.h>

struct landlock {
        int fd; /* the ruleset; -1: not begun, or entered */
        unsigned version;
        uint64_t limited; /* kinds of access to files that the running kernel limits */
};

#define LANDLOCK_INIT ((struct landlock){.fd = -1})

/* For CLEANUP(landlock_done). */
void landlock_done(struct landlock *landlock);

/*
 * Creates a ruleset that permits nothing. Returns 0, or negative errno: -ENOSYS or -EOPNOTSUPP if the kernel has no
 * Landlock.
 */
int landlock_begin(struct landlock *ret_landlock);

enum {
        LANDLOCK_READ = 1 << 0,        /* files and lists of folders */
        LANDLOCK_WRITE = 1 << 1,       /* files that exist */
        LANDLOCK_IOCTL = 1 << 2,       /* of devices */
        LANDLOCK_MAKE_SOCKET = 1 << 3, /* sockets with a path */
        LANDLOCK_REMOVE = 1 << 4,      /* files */
};

/*
 * Permits these accesses to path and everything below it, now and later. If path does not exist or cannot be reached,
 * no rule is needed: that is not an error. Returns 0 or negative errno.
 */
int landlock_permit(struct landlock *landlock, const char *path, unsigned accesses);

/*
 * Limits the calling thread and the threads that it creates later, permanently. no_new_privs must be set. Returns 0 or
 * negative errno.
 */
int landlock_enter(struct landlock *landlock);
