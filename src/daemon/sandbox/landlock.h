#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Landlock (Linux 5.13): the process may open only what lies below the paths that it has named, whatever its user and
 * its capabilities permit. A daemon that runs as root needs it most.
 *
 * Newer kernels limit more; all of what the running kernel has is limited, by its version (landlock(7)):
 *
 *      1 (5.13)   reading, writing, making and removing files, executing
 *      2 (5.19)   moving files from folder to folder
 *      3 (6.2)    truncating them
 *      4 (6.7)    TCP
 *      5 (6.10)   ioctl() of devices
 *      6 (6.12)   abstract Unix sockets of other processes, signals to them
 *
 * It also keeps us from tracing others. It does not limit what is open already, connections to sockets that have a
 * path, or a look at names, owners and modes (stat(2)).
 */

#include <stdint.h>

struct landlock {
        int fd; /* of the rules; -1: none yet, or entered */
        unsigned version;
        uint64_t limited; /* kinds of access to files that the running kernel limits */
};

#define LANDLOCK_INIT ((struct landlock){.fd = -1})

/* For CLEANUP(landlock_done). */
void landlock_done(struct landlock *landlock);

/* Begins; everything is refused. Returns 0, or negative errno: -ENOSYS or -EOPNOTSUPP where the kernel has none. */
int landlock_begin(struct landlock *ret_landlock);

enum {
        LANDLOCK_READ = 1 << 0,        /* files and lists of folders */
        LANDLOCK_WRITE = 1 << 1,       /* files that exist */
        LANDLOCK_IOCTL = 1 << 2,       /* of devices */
        LANDLOCK_MAKE_SOCKET = 1 << 3, /* sockets with a path */
        LANDLOCK_REMOVE = 1 << 4,      /* files */
};

/*
 * Permits the accesses for path and all that lies below it now and later. A path that does not exist, or is out of
 * reach, needs no rule: that is no error. Returns 0 or negative errno.
 */
int landlock_permit(struct landlock *landlock, const char *path, unsigned accesses);

/* Limits the calling thread, and those that it makes, for good. no_new_privs must be set. Returns 0 or negative errno.
 */
int landlock_enter(struct landlock *landlock);
