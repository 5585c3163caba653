#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* `holdfast-sim ctl`: sends a verb from the command line to a running simulator's socket. */

/* argv[0] is "ctl". Returns the exit status: 0 success, 1 the simulator refused or does not answer, 2 wrong usage. */
int ctl_main(int argc, char **argv);
