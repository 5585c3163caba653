#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which processes there are, as /proc lists them. */

#include <stddef.h>
#include <sys/types.h>

/* Into an array that the caller frees. Returns 0 or negative errno. */
int pids_list(pid_t **ret_pids, size_t *ret_n);
