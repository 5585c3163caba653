#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Lists processes, and reads their files in /proc. */

#include <stddef.h>
#include <sys/types.h>

/* Lists all processes in an array that the caller frees. Returns 0 or negative errno. */
int pids_list(pid_t **ret_pids, size_t *ret_n);

/* Reads /proc/PID/<name> like file_read(). pid may also be that of a thread. */
ssize_t pids_read(pid_t pid, const char *name, char *buffer, size_t size);

/* Reads the name of a process (comm), made printable and truncated; "" if it cannot be read. Returns buffer. */
const char *pids_read_name(pid_t pid, char *buffer, size_t size);
