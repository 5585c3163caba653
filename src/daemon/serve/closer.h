#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Closes clients' sockets without ever blocking the event loop.
 *
 * A client can pass descriptors (SCM_RIGHTS). If we never receive them, the kernel closes them in our thread when we
 * read past them or close the socket that contains them. The last close of a descriptor can take any time: for example
 * of a TCP socket that lingers, or of a GPU's node. Before Linux 6.8 closing any Unix socket may also run the garbage
 * collection of all of them (unix_gc()).
 *
 *      the socket refuses rights (SO_PASSRIGHTS off, Linux 6.16)   it contains no descriptors: closed at once
 *      any other                                                   shut down at once, closed by a thread of the closer
 *
 * A thread whose close() blocks gets a signal every 100 ms, which ends waits that are interruptible (of a lingering TCP
 * socket, of a terminal). There are at most CLOSER_THREADS_MAX threads; further sockets wait in a queue. While too many
 * wait (closer_count()), the server accepts no new client.
 *
 * Only the loop's thread calls these functions. The threads outlive closer_stop(), so they use only the closer's own
 * data.
 */

#include <event2/event.h>

enum { CLOSER_THREADS_MAX = 16 };

int closer_start(struct event_base *loop);
void closer_stop(void);

/*
 * Makes a listening socket, and all connections made to it from now on, refuse descriptors if the kernel supports that.
 */
void closer_refuse_rights(int listen_fd);

/* Takes ownership of fd. The client sees the end of the connection at once. */
void closer_close(int fd);

/* The number of sockets that are not closed yet. */
unsigned closer_count(void);
