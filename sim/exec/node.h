#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A mount namespace in which the simulator's files are at the paths of the driver's files:
 *
 *      /dev                        a new folder: the old entries without nvidia* and kmsg, and the simulator's nodes
 *      /proc/driver, /proc/devices, /sys/bus/pci
 *      /run                        as /dev: the old entries, and nvidia-persistenced, holdfast and holdfast-sim of
 *                                  the simulator; all exec calls with one simulator share these three
 */

/* Enters a new mount namespace. Without root, also a new user namespace, in which the caller is root. The process must
 * have only one thread. Returns 0 or negative errno. */
int node_unshare(void);

/* Mounts the files of the simulator at root. Returns 0, or negative errno and the path that failed in *ret_path. */
int node_mount(const char *root, const char **ret_path);

/*
 * Describes the simulator's nodes, which are plain files, for the preloaded stat.c: "DEVICE INODE:MAJOR:MINOR ...", the
 * device and inodes in hexadecimal, the other numbers in decimal. Returns 0 or negative errno. The caller frees the
 * text.
 */
int node_describe(const char *root, char **ret_text);
