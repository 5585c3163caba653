#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which processes there are, as /proc lists them, and what it says of one. */

#include <stddef.h>
#include <sys/types.h>

/* Into an array that the caller frees. Returns 0 or negative errno. */
int pids_list(pid_t **ret_pids, size_t *ret_n);

/* Reads one of its files, /proc/PID/<name>, as file_read() does. A thread has them, too. */
ssize_t pids_read(pid_t pid, const char *name, char *buffer, size_t size);

/* Its name (comm), printable, cut; empty when that cannot be read. Returns buffer. */
const char *pids_read_name(pid_t pid, char *buffer, size_t size);
