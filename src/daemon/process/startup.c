/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/process/startup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"

enum { SETTLE_LIMIT_MSEC = 500 };

/* The child ended without sending a status. Prints how it ended. */
static int status_of_dead(pid_t child) {
        int status = 0;

        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                ;
        if (WIFSIGNALED(status))
                fprintf(stderr, "nvidia-persistenced: ended by signal %d (%s) while starting\n", WTERMSIG(status),
                        strsignal(WTERMSIG(status)));
        else
                fprintf(stderr, "nvidia-persistenced: ended with status %d while starting\n", WEXITSTATUS(status));
        return EXIT_FAILURE;
}

/* Copies the child's lines to standard error until its status comes. */
static int wait_for_status(int fd, pid_t child) {
        bool at_status = false;

        for (;;) {
                char bytes[512];
                ssize_t count = read(fd, bytes, sizeof(bytes));

                if (count < 0 && errno == EINTR)
                        continue;
                if (count <= 0)
                        return status_of_dead(child);
                for (ssize_t i = 0; i < count; i++) {
                        if (at_status)
                                return bytes[i];
                        at_status = bytes[i] == '\0';
                        if (!at_status)
                                (void)fputc(bytes[i], stderr);
                }
        }
}

static int detach(void) {
        CLEANUP(fd_done) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null_fd < 0)
                return log_errno(LOG_ERR, -errno, "cannot open /dev/null");
        if (setsid() < 0 || chdir("/") < 0)
                return log_errno(LOG_ERR, -errno, "cannot detach from the terminal");
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (dup2(null_fd, fd) < 0)
                        return log_errno(LOG_ERR, -errno, "cannot redirect descriptor %d", fd);
        return 0;
}

int startup_fork(struct startup *ret_startup) {
        int ends[2];
        pid_t child;
        int r;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return log_errno(LOG_ERR, -errno, "cannot create a pipe");
        child = fork();
        if (child < 0) {
                r = log_errno(LOG_ERR, -errno, "cannot fork");
                (void)fd_close(ends[0]);
                (void)fd_close(ends[1]);
                return r;
        }
        if (child > 0) {
                (void)fd_close(ends[1]);
                r = wait_for_status(ends[0], child);
                if (r != EXIT_SUCCESS)
                        log_settle(SETTLE_LIMIT_MSEC);
                _exit(r);
        }
        (void)fd_close(ends[0]);
        /* If the parent cannot print, the pipe fills up; error lines that do not fit are lost. */
        (void)fcntl(ends[1], F_SETFL, O_WRONLY | O_NONBLOCK);
        ret_startup->pipe_fd = ends[1];
        log_copy_errors_to(ends[1]);
        return detach();
}

void startup_tell(struct startup *startup, int status) {
        const char message[2] = {'\0', (char)status};

        if (startup->pipe_fd < 0)
                return;
        log_copy_errors_to(-1);
        (void)!write(startup->pipe_fd, message, sizeof(message));
        startup->pipe_fd = fd_close(startup->pipe_fd);
}
