#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Removes what a killed process has left behind. The pid file shows whether the process lives: a living one has it
 * locked (fcntl(2)). While we have the lock no other process can start, so the rest can be removed.
 */

/* In the runtime directory: a contract (docs/protocol.md). */
#define PID_FILE_NAME "nvidia-persistenced.pid"
#define SOCKET_NAME "socket"

/*
 * Locks the pid file of a process that is dead. Returns a descriptor, whose close ends the lock; -EBUSY when the
 * process lives, or another one starts; -ENOENT when there is none; or another negative errno.
 */
int leftover_lock(const char *pid_file);
