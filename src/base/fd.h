#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Owned file descriptors. A descriptor has one owner; -1 means none. Every descriptor is close-on-exec from its
 * creation (pass O_CLOEXEC, SOCK_CLOEXEC, ... where it is created).
 */

#include <errno.h>
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

/* Closes this descriptor and all with higher numbers. */
void fd_close_from(int first);
