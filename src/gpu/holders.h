#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Who has a GPU's node open: every process' descriptors, as /proc/PID/fd shows them. Looking opens and initialises
 * nothing. The processes are always this system's, whatever root the devices are below.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { HOLDER_NAME_SIZE = 32 };

/* One process with one GPU's node open. */
struct holder {
        int minor; /* N of /dev/nvidiaN */
        pid_t pid;
        unsigned n_descriptors;
        char name[HOLDER_NAME_SIZE]; /* comm, printable; empty when the process has gone meanwhile */
        bool is_keeper;              /* it is a keeper of ours (daemon/keeper.h), which uses no GPU */
};

/*
 * Finds them all, ordered by minor, then pid, in an array that the caller frees. *ret_complete is false when there are
 * processes whose descriptors we may not see. Returns 0 or negative errno.
 */
int holders_scan(const char *root, struct holder **ret_holders, size_t *ret_n, bool *ret_complete);

/* The same for one process. -EACCES or -EPERM when its descriptors may not be seen; a process that has gone has none.
 */
int holders_scan_process(const char *root, pid_t pid, struct holder **ret_holders, size_t *ret_n);

/*
 * Whether nvidia-drm drives displays (its parameter modeset, the default since driver 595): it then keeps every GPU
 * initialised from inside the kernel, with no process to show for it.
 */
bool holders_has_modeset(const char *root);
