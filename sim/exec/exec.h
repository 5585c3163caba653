#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast-sim exec: a command on a node with simulated GPUs. It sees the simulator's files at the paths of real ones
 * (node.h), in a mount namespace of its own; so programs that know no --root run there unchanged, NVIDIA's own too.
 */

/* The command line from "exec" on. Returns the exit status: COMMAND's, or 128 and the number of the signal that ended
 * it; 126 or 127 if it cannot be run, 1 if there is no such node to be had, 2 for misuse; both are told. */
int exec_main(int argc, char **argv);
