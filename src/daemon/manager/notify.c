/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/manager/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"

static int notify_fd = -1;

static int notify_connect(const char *path) {
        static const struct timeval limit = {.tv_sec = 1}; /* for notify_store() and notify_unstore() */
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        CLEANUP(fd_done) int fd = -1;
        size_t length = strlen(path);

        if (!text_copy(address.sun_path, sizeof(address.sun_path), path))
                return -ENAMETOOLONG;
        if (path[0] == '@') /* an abstract socket */
                address.sun_path[0] = '\0';
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)&address,
                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
                return -errno;
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        return take_fd(&fd);
}

void notify_open(const char *path) {
        int fd;

        if (!path || path[0] == '\0')
                return;
        fd = notify_connect(path);
        if (fd < 0)
                (void)log_errno(LOG_WARNING, fd, "cannot reach the service manager at %s", path);
        else
                notify_fd = fd;
}

bool notify_is_open(void) {
        return notify_fd >= 0;
}

int notify_send(const char *format, ...) {
        char text[512];
        va_list arguments;

        if (notify_fd < 0)
                return 0;
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        return send(notify_fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int notify_unstore(const char *name) {
        char text[128];

        if (notify_fd < 0)
                return 0;
        (void)text_format(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
        return send(notify_fd, text, strlen(text), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/*
 * Removes the copies of earlier starts first. This takes two messages, since the manager accepts one command in each.
 */
int notify_store(const char *name, int fd) {
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
        char text[128];
        struct iovec lines = {.iov_base = text};
        struct msghdr message = {
                .msg_iov = &lines,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        int r;

        if (notify_fd < 0)
                return -ENOTCONN;
        r = notify_unstore(name);
        if (r < 0)
                return r;
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        /* FDPOLL=0: the manager must not drop a descriptor that polls as an error, as the kernel log does after a
         * loss. */
        (void)text_format(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
        lines.iov_len = strlen(text);
        return sendmsg(notify_fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

uint64_t notify_watchdog_usec(const char *period, const char *pid) {
        uint64_t usec, watched;

        if (!period || text_parse_u64(period, 10, UINT64_MAX, &usec) < 0)
                return 0;
        if (pid && (text_parse_u64(pid, 10, INT32_MAX, &watched) < 0 || watched != (uint64_t)getpid()))
                return 0;
        return usec / 2;
}
