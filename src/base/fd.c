/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/fd.h"

#include <sys/socket.h>

void fd_close_from(int first) {
        if (close_range((unsigned)first, ~0U, 0) < 0) /* before Linux 5.9 */
                for (int fd = first; fd < (int)sysconf(_SC_OPEN_MAX); fd++)
                        (void)close(fd);
}

int fd_send_all(int fd, const char *bytes, size_t length) {
        while (length > 0) {
                ssize_t count = send(fd, bytes, length, MSG_NOSIGNAL);

                if (count < 0 && errno == EINTR)
                        continue;
                if (count < 0)
                        return -errno;
                bytes += count;
                length -= (size_t)count;
        }
        return 0;
}
