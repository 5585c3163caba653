#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Becoming a daemon with a parent that tells the truth. The parent waits until the child says how its start went,
 * prints the child's own error lines, and returns the child's status: the starting command has then succeeded or
 * failed.
 *
 *      parent   pipe   child
 *        |  <- error lines -  |   log_copy_errors_to()
 *        |  <- NUL, status -  |   startup_tell()
 *       exit(status)          |   goes on
 */

struct startup {
        int pipe_fd; /* the child's end; -1: nobody waits */
};

/*
 * Forks. Returns in the child only, detached from the terminal, in "/", descriptors 0-2 on /dev/null; the parent exits
 * by itself. Returns negative errno (logged) in the caller when it could not.
 */
int startup_fork(struct startup *ret_startup);

/* Tells the parent how the start went; it exits with that status. Does nothing the second time, or if nobody waits. */
void startup_tell(struct startup *startup, int status);
