#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Owned file descriptors. A descriptor has one owner; -1 means none. Every descriptor is close-on-exec from its
 * creation (pass O_CLOEXEC, SOCK_CLOEXEC, ... where it is created).
 */

#include <errno.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

/* Closes fd unless it is negative, keeps errno, returns -1: fd = fd_close(fd). */
static inline int fd_close(int fd) {
        int saved_errno = errno;

        if (fd >= 0)
                (void)close(fd);
        errno = saved_errno;
        return -1;
}

/* For CLEANUP(fd_done). */
static inline void fd_done(int *fd) {
        *fd = fd_close(*fd);
}

/* Returns the descriptor and sets it to -1. */
static inline int take_fd(int *fd) {
        int taken = *fd;

        *fd = -1;
        return taken;
}

/*
 * Binds a Unix socket to a path. From its creation on, the socket has mode 0777 without the bits of mask. With a later
 * chmod() instead, others could connect before it, or replace the socket by a link. Changes the umask of the process
 * meanwhile. Returns 0 or negative errno.
 */
int fd_bind(int fd, const struct sockaddr_un *address, mode_t mask);

/* Closes this descriptor and all with higher numbers. */
void fd_close_from(int first);
