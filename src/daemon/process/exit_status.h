#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What the daemon's exit status tells a service manager: whether another start could end differently. The numbers are
 * those of the Linux Standard Base for init scripts, which `systemctl status` prints by name. Our units have the
 * permanent ones in RestartPreventExitStatus=.
 *
 *      1   EXIT_FAILURE: may pass by itself (another daemon runs, no memory, --require-gpu)
 *      2   the command line is wrong
 *      4   a permission is missing that the command line or the unit asks for
 *      6   the configuration is wrong, or names a user or group that does not exist
 */

enum {
        EXIT_USAGE = 2,
        EXIT_NOT_PERMITTED = 4,
        EXIT_NOT_CONFIGURED = 6,
};
