#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Counts the listening sockets that were bound to the daemon's path, also if the path leads to another file now. Any
 * user can bind that path in a mount namespace of its own, so the socket must also be on the same file system, and made
 * by root or by the owner of the socket's folder.
 */

#include <stddef.h>

#include "cli/doctor/mounts.h"

/* Asks the kernel (sock_diag(7)). Returns 0 or negative errno. */
int listeners_count(const char *socket_path, const struct socket_place *place, size_t *ret_n);
