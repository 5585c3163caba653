#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The listening socket and the sessions behind it, with their limits. The socket is 0777 and is mounted into
 * containers: whoever connects is taken for an attacker. No number of connections keeps another client out: when a
 * limit is reached, an idle session of the account that has most is ended for the new one (accounts.h).
 */

#include <event2/event.h>

#include "daemon/serve/session.h"

struct server;

/*
 * Priorities of the loop's events: the listening socket and root of this host come before all others. The loop must
 * have been given both, and look for the first after every few callbacks of the rest.
 */
enum { SERVER_FIRST, SERVER_PRIORITIES = 2, SERVER_CALLBACKS_BEFORE_A_LOOK = 16 };

struct server_limits {
        unsigned sessions;          /* in all; well below the limit on descriptors, so that GPUs always get theirs */
        unsigned sessions_per_user; /* of each account but that of root of this host */
        bool members_matter;        /* users other than uid 0 may change something */
};

/*
 * The limits for a process that may have max_fds descriptors: half of them, the rest is kept for GPUs, at most 512; and
 * a quarter of that for each account.
 */
struct server_limits server_limits_for(unsigned max_fds);

/* What has happened, for those who ask (RPC Stats). */
struct server_counts {
        unsigned sessions; /* open now */
        unsigned sessions_max;
        uint64_t accepted;
        uint64_t evicted;
        uint64_t expired;
        uint64_t malformed;
};
struct server_counts server_count(const struct server *server);

/* Owns the listening descriptor, also on failure. Clients wait in its queue until server_start(). */
int server_new(struct server **ret_server, struct event_base *loop, int listen_fd, const struct server_limits *limits,
               void (*on_record)(struct session *session, const uint8_t *record, size_t length, void *userdata),
               void *userdata);
/* Takes clients from now on. Does nothing the second time. */
void server_start(struct server *server);
void server_set_limits(struct server *server, const struct server_limits *limits);
/* Ends all sessions. */
void server_free(struct server *server);

/*
 * Binds and listens at path, mode 0777. A socket that nobody listens on any more is replaced; one that somebody answers
 * on is -EADDRINUSE. Errors are logged. Returns a descriptor or negative errno.
 */
int server_listen(const char *path);
