/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Preloaded into a program: sockets lack the options of Linux 6.5 and later. So tests can check on any kernel what the
 * daemon does on an older one.
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
