/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/leftover.h"

#include <errno.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"

int leftover_lock(const char *pid_file) {
        struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        CLEANUP(fd_done) int fd = open(pid_file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

        if (fd < 0)
                return -errno;
        if (fcntl(fd, F_SETLK, &whole) < 0)
                return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
        return file_is_at(fd, pid_file) ? take_fd(&fd) : -EBUSY;
}
