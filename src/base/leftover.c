/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/leftover.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"

/*
 * Opens the file for reading only: if the sandbox permitted writing in this folder, a user who can mount could make us
 * write to another file (sandbox/paths.c). The lock for reading excludes daemons, which lock for writing; flock(2),
 * which is independent of it, excludes other processes that remove the files.
 */
int leftover_lock(const char *pid_file) {
        struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
        CLEANUP(fd_done) int fd = open(pid_file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fcntl(fd, F_SETLK, &whole) < 0)
                return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
        return file_is_at(fd, pid_file) ? take_fd(&fd) : -EBUSY;
}
