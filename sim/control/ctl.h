#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* `holdfast-sim ctl`: the verbs at the command line, sent to a running simulator's socket. */

/* argv[0] is "ctl". Returns the exit status: 0 done, 1 the simulator refused or is not there, 2 misuse. */
int ctl_main(int argc, char **argv);
