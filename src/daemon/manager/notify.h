#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The service manager's notification protocol (sd_notify(3)): datagrams of "NAME=value" lines to the socket in
 * NOTIFY_SOCKET. The functions do nothing without that variable, and may be called on any thread. We do not use
 * libsystemd, because the protocol is documented and simple, and a root daemon is safer without its dependencies.
 */

#include <stdbool.h>
#include <stdint.h>

/* path: the value of NOTIFY_SOCKET, or NULL. Errors are logged. */
void notify_open(const char *path);
bool notify_is_open(void);

/*
 * Sends lines ("READY=1\nSTATUS=8 of 8 GPUs held") without waiting. Returns 0, also if there is no manager, or negative
 * errno: -EAGAIN if the manager's queue is full, -ECONNREFUSED and then -ENOTCONN if its socket was closed.
 */
int notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Stores a copy of fd with the manager, which passes it at the next start under this name (without colons). It replaces
 * what the manager has under that name. If the manager's queue is full, waits for at most a second for each of two
 * messages. Returns 0 or negative errno: -ENOTCONN without a manager.
 */
int notify_store(const char *name, int fd);

/* Has the manager drop what it stores under that name; waits like notify_store(). Returns 0 or negative errno. */
int notify_unstore(const char *name);

/*
 * How often to send WATCHDOG=1, in microseconds: half of WATCHDOG_USEC (period), if WATCHDOG_PID (pid) is this process.
 * 0: never. Both may be NULL; without a pid the period counts.
 */
uint64_t notify_watchdog_usec(const char *period, const char *pid);
