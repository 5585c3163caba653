#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A mount namespace in which a simulator's files are where a driver's would be:
 *
 *      /dev                        a folder of its own: what was there but /dev/nvidia*, and the simulator's nodes
 *      /proc/driver, /proc/devices, /sys/bus/pci
 *      /run                        as /dev: what was there, and the simulator's nvidia-persistenced, holdfast and
 *                                  holdfast-sim, so that all who use this simulator meet there
 */

/* Leaves the caller's mount namespace; without root its user namespace as well, where it is root then. One thread only.
 * Returns 0 or negative errno. */
int node_unshare(void);

/* Mounts the files of the simulator at root. Returns 0, or negative errno; *ret_path is the path that failed then. */
int node_mount(const char *root, const char **ret_path);

/*
 * What a preloaded stat.c is to know of the simulator's nodes, which are plain files: "DEVICE INODE:MAJOR:MINOR ...",
 * in hexadecimal digits, decimal the rest. Returns 0 or negative errno. The caller frees it.
 */
int node_describe(const char *root, char **ret_text);
