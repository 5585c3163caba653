/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/fd.h"

#include <sys/socket.h>
#include <sys/stat.h>

int fd_bind(int fd, const struct sockaddr_un *address, mode_t mask) {
        mode_t saved = umask(mask);
        int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

        (void)umask(saved);
        return r;
}

void fd_close_from(int first) {
        if (close_range((unsigned)first, ~0U, 0) < 0) /* before Linux 5.9 */
                for (int fd = first; fd < (int)sysconf(_SC_OPEN_MAX); fd++)
                        (void)close(fd);
}
