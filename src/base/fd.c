/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/fd.h"

void fd_close_from(int first) {
        if (close_range((unsigned)first, ~0U, 0) < 0) /* before Linux 5.9 */
                for (int fd = first; fd < (int)sysconf(_SC_OPEN_MAX); fd++)
                        (void)close(fd);
}
