/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"

static int notify_fd = -1;

static int notify_connect(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t length = strlen(path);
        int fd;

        if (!text_copy(address.sun_path, sizeof(address.sun_path), path))
                return -ENAMETOOLONG;
        if (path[0] == '@') /* abstract */
                address.sun_path[0] = '\0';
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)&address,
                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0) {
                int r = -errno;

                (void)fd_close(fd);
                return r;
        }
        return fd;
}

void notify_open(void) {
        const char *path = getenv("NOTIFY_SOCKET");
        int fd;

        if (!path || path[0] == '\0')
                return;
        fd = notify_connect(path);
        if (fd < 0)
                (void)log_errno(LOG_WARNING, fd, "cannot reach the service manager at %s", path);
        else
                notify_fd = fd;
        (void)unsetenv("NOTIFY_SOCKET");
}

void notify_send(const char *format, ...) {
        char text[512];
        va_list arguments;

        if (notify_fd < 0)
                return;
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        (void)send(notify_fd, text, strlen(text), MSG_NOSIGNAL);
}
