#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Helps to remove the files of a killed daemon. A living daemon has its pid file locked (fcntl(2)). While we have that
 * lock, no other daemon can start, so the other files can be removed.
 */

/* In the runtime directory. Other programs depend on these names (docs/protocol.md). */
#define PID_FILE_NAME "nvidia-persistenced.pid"
#define SOCKET_NAME "socket"

/*
 * Locks the pid file of a dead daemon. Returns a descriptor, whose close ends the lock; -EBUSY if the daemon lives or
 * another one starts; -ENOENT if there is no pid file; or another negative errno.
 */
int leftover_lock(const char *pid_file);
