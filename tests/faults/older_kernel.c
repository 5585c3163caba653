/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Preloaded into a program: sockets know no options that came with Linux 6.5 or later. What the daemon does on older
 * kernels is tried with it on whatever kernel there is.
 */

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PEERPIDFD = 77, PASSRIGHTS = 83 }; /* include/uapi/asm-generic/socket.h: 6.5, 6.16 */

static int is_newer(int level, int option) {
        return level == SOL_SOCKET && (option == PEERPIDFD || option == PASSRIGHTS);
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *size) {
        if (!is_newer(level, option))
                return (int)syscall(SYS_getsockopt, fd, level, option, value, size);
        errno = ENOPROTOOPT;
        return -1;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t size) {
        if (!is_newer(level, option))
                return (int)syscall(SYS_setsockopt, fd, level, option, value, size);
        errno = ENOPROTOOPT;
        return -1;
}
