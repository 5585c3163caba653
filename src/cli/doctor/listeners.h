#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * How many sockets that were bound to the daemon's path are listened to, whether the path still leads there or not.
 * Anybody can bind that path in a mount namespace of its own, so two more things count: the file's file system, and the
 * user who made the socket: root, or the owner of the socket's folder.
 */

#include <stddef.h>

#include "cli/doctor/mounts.h"

/* Asks the kernel (sock_diag(7)). Returns 0 or negative errno. */
int listeners_count(const char *socket_path, const struct socket_place *place, size_t *ret_n);
