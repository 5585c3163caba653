/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/fd.h"

#include <sys/socket.h>

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
