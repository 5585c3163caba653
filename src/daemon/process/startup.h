#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Goes into the background, with a parent that reports the result of the start. The parent waits for the child's
 * result, prints the child's error lines, and exits with the child's status. So the command that starts the daemon
 * succeeds or fails as the daemon does.
 *
 *      parent   pipe   child
 *        |  <- error lines -  |   log_copy_errors_to()
 *        |  <- NUL, status -  |   startup_tell()
 *       exit(status)          |   continues
 */

struct startup {
        int pipe_fd; /* the child's end; -1: no parent waits */
};

/*
 * Forks. Returns 0 in the child only: it is detached from the terminal, in "/", with descriptors 0-2 on /dev/null. The
 * parent exits. Returns negative errno (logged) on failure, in the process that failed.
 */
int startup_fork(struct startup *ret_startup);

/* Sends the exit status to the parent, which exits with it. Does nothing the second time, or if no parent waits. */
void startup_tell(struct startup *startup, int status);
