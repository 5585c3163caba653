#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The service manager's notification protocol (sd_notify(3)): a datagram of "NAME=value" lines to the socket named by
 * NOTIFY_SOCKET. Does nothing where there is none. Own code: the protocol is documented for re-implementation, and a
 * root daemon is better without libsystemd's dependencies. Safe to call from several threads.
 */

#include <stdbool.h>
#include <stdint.h>

/* path: what NOTIFY_SOCKET says, or NULL. */
void notify_open(const char *path);
bool notify_is_open(void);

/*
 * Sends lines ("READY=1\nSTATUS=8 of 8 GPUs held"). Returns 0, also when there is no manager, or the negative errno of
 * sendmsg(2): -EAGAIN when its queue stayed full.
 */
int notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Has the manager pass a copy of fd at the next start, by that name (no colon in it), in place of what it has by that
 * name. Returns 0 or negative errno.
 */
int notify_store(const char *name, int fd);

/*
 * The period of WATCHDOG=1 that the manager wants, in microseconds: half of WATCHDOG_USEC, if WATCHDOG_PID means this
 * process. 0: none. Both may be NULL.
 */
uint64_t notify_watchdog_usec(const char *period, const char *pid);
