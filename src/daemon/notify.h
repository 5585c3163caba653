#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The service manager's notification protocol (sd_notify(3)): a datagram of "NAME=value" lines to the socket named by
 * NOTIFY_SOCKET. Does nothing where that is not set. Own code: the protocol is documented for re-implementation, and a
 * root daemon is better without libsystemd's dependencies.
 */

/* Takes NOTIFY_SOCKET from the environment, so that children do not inherit it. */
void notify_open(void);

/* Sends lines ("READY=1\nSTATUS=8 of 8 GPUs held"). A manager that does not listen is no error of ours. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
