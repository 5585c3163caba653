#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The listening socket and its sessions, with their limits. The socket has mode 0777 and is mounted into containers, so
 * every client may be an attacker. No number of connections locks another client out: when a limit is reached, the
 * server ends an idle session of the account that has the most (accounts.h) and accepts the new one.
 */

#include <event2/event.h>

#include "daemon/serve/session.h"

struct server;

/*
 * Priorities of the loop's events: the listening socket and sessions of root of this host come first. The loop must be
 * created with SERVER_PRIORITIES, and must check for events of the first priority after every
 * SERVER_CALLBACKS_BEFORE_A_LOOK callbacks of the other.
 */
enum { SERVER_FIRST, SERVER_PRIORITIES = 2, SERVER_CALLBACKS_BEFORE_A_LOOK = 16 };

struct server_limits {
        unsigned sessions;          /* in all; well below the limit of descriptors, which GPUs need, too */
        unsigned sessions_per_user; /* of each account except root of this host */
        bool members_matter;        /* users other than uid 0 may change which GPUs are held */
};

/*
 * The limits for a process that may have max_fds descriptors. Sessions: half of max_fds (GPUs need the rest), at least
 * 4, at most 512. Sessions of one account: a quarter of that.
 */
struct server_limits server_limits_for(unsigned max_fds);

/* Counters for the RPC method Stats. */
struct server_counts {
        unsigned sessions; /* open now */
        unsigned sessions_max;
        uint64_t accepted;
        uint64_t evicted;
        uint64_t expired;
        uint64_t malformed;
};
struct server_counts server_count(const struct server *server);

/* Takes ownership of the listening descriptor, also on failure. Clients wait in its queue until server_start(). */
int server_new(struct server **ret_server, struct event_base *loop, int listen_fd, const struct server_limits *limits,
               void (*on_record)(struct session *session, const uint8_t *record, size_t length, void *userdata),
               void *userdata);
/* Accepts clients from now on. A second call does nothing. */
void server_start(struct server *server);
void server_set_limits(struct server *server, const struct server_limits *limits);
/* Ends all sessions. NULL is allowed. */
void server_free(struct server *server);

/*
 * Binds and listens at path, with mode 0777. Replaces a socket on which nobody listens any more; fails with -EADDRINUSE
 * if somebody does. Logs errors. Returns a descriptor or negative errno.
 */
int server_listen(const char *path);
