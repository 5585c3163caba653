#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Closes clients' sockets without ever blocking the event loop.
 *
 * A client can pass descriptors (SCM_RIGHTS). The kernel closes them when we read past them or close the socket that
 * they wait in, in our thread, and the last close of a descriptor can take any time: a TCP socket that lingers, a GPU's
 * node. Before Linux 6.8 the close of any Unix socket may also collect the garbage of others (unix_gc()).
 *
 *      the socket refuses rights (SO_PASSRIGHTS off, Linux 6.16)   nothing can wait in it: closed at once
 *      any other                                                   shut down at once, closed by a thread of the closer
 *
 * A thread that a close keeps waiting gets a signal every 100 ms, which ends waits that a signal can end (a lingering
 * TCP socket's, a terminal's). There are at most CLOSER_THREADS_MAX threads; further sockets wait in a queue, and the
 * server takes no new client while too many do (closer_count()).
 *
 * All functions are called by the loop's thread. The threads outlive closer_stop(): they use nothing of others.
 */

#include <event2/event.h>

enum { CLOSER_THREADS_MAX = 16 };

int closer_start(struct event_base *loop);
void closer_stop(void);

/* Has a listening socket, and those that connect to it from now on, refuse rights where the kernel can. */
void closer_refuse_rights(int listen_fd);

/* Owns fd from now on. Its client is told at once. */
void closer_close(int fd);

/* How many sockets are not closed yet. */
unsigned closer_count(void);
