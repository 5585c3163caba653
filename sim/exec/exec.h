#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast-sim exec: runs a command on a node with simulated GPUs. In its own mount namespace, the command sees the
 * simulator's files at the paths of the real ones (node.h). So programs without an option like --root run there
 * unchanged, including NVIDIA's own.
 */

/* The arguments start with "exec". Returns the exit status: COMMAND's, or 128 plus the number of the signal that ended
 * it; 126 or 127 if COMMAND cannot be run, 1 if the node cannot be set up, 2 for wrong usage. Prints the reason. */
int exec_main(int argc, char **argv);
