#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The daemon's exit statuses. They tell a service manager whether another start could succeed. The numbers are those of
 * the Linux Standard Base for init scripts, which `systemctl status` shows by name. Our units list the permanent ones
 * in RestartPreventExitStatus=.
 *
 *      1   EXIT_FAILURE: may be temporary (another daemon runs, no memory, --require-gpu)
 *      2   the command line is wrong
 *      4   a permission is missing that the command line or the unit requires
 *      6   the configuration is wrong, or names a user or group that does not exist
 */

#include <errno.h>
#include <stdlib.h>

enum {
        EXIT_USAGE = 2,
        EXIT_NOT_PERMITTED = 4,
        EXIT_NOT_CONFIGURED = 6,
};

/* The exit status for a negative errno: EXIT_NOT_PERMITTED; EXIT_FAILURE if it may be temporary; otherwise `status`. */
static inline int exit_status_of(int error, int status) {
        switch (-error) {
        case EACCES:
        case EPERM:
        case EROFS:
                return EXIT_NOT_PERMITTED;
        case EAGAIN:
        case EINTR:
        case EMFILE:
        case ENFILE:
        case ENOMEM:
                return EXIT_FAILURE;
        default:
                return status;
        }
}
