#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Who has a GPU's node open: every process' descriptors, as /proc/PID/fd shows them. The search opens no node and
 * initialises no GPU. It reads the processes of this system, also if the devices are below another root.
 *
 * Any process may have a file open that is called "nvidia0" and lies on a file system whose server is dead. So the code
 * compares names first, and makes no call that the kernel forwards to the file system. If reading a process hangs
 * nevertheless, that process is skipped after a time limit (base/aside.h). Only for programs with one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/locations.h"

enum { HOLDER_NAME_SIZE = 32 };

/* comm of NVIDIA's daemon, of our daemon and of its keeper: the program's name, cut to 15 characters. */
#define HOLDER_DAEMON_NAME "nvidia-persiste"

/* One process with one GPU's node open. */
struct holder {
        int minor; /* N of /dev/nvidiaN */
        pid_t pid;
        unsigned n_descriptors;
        char name[HOLDER_NAME_SIZE]; /* comm, printable; empty when the process has gone meanwhile */
        bool is_keeper;              /* it is a keeper of ours (daemon/manager/keeper.h), which uses no GPU */
};

/* How much of the system was seen. */
struct holders_sight {
        bool complete;     /* all of it; the members below are then 0 */
        size_t n_hanging;  /* skipped processes: each that hangs, and all that are left when too many have hung or the
                            * time is up (base/aside.h). If this is 0 and complete is false, some are hidden from us */
        pid_t hanging_pid; /* the first skipped process */
};

/* Finds them all, ordered by minor, then pid, in an array that the caller frees. Returns 0 or negative errno. */
int holders_scan(const struct locations *locations, struct holder **ret_holders, size_t *ret_n,
                 struct holders_sight *ret_sight);

/* The same for one process. -EACCES if its descriptors may not be seen, -ETIMEDOUT if reading them hangs; a process
 * that has gone has none. */
int holders_scan_process(const struct locations *locations, pid_t pid, struct holder **ret_holders, size_t *ret_n);

/*
 * Whether nvidia-drm drives displays (its parameter modeset, the default since driver 595): it then keeps every GPU
 * initialised from inside the kernel, without a process that has it open.
 */
bool holders_has_modeset(const struct locations *locations);
