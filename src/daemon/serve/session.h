#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The connection of one client. It never blocks the loop: it collects a record from whatever pieces arrive, and keeps
 * the part of a reply that the socket does not accept yet. It has one call in progress at a time, and begins at most
 * one in each turn of the loop. It reads nothing while a call is in progress or the client has not read the reply, so a
 * client can make us keep at most one record and one reply.
 *
 *      socket -> record -> on_record() -> ... session_reply() -> output -> socket
 *
 * Only callbacks of the loop read calls and end sessions. So session_reply() never starts another call, and the session
 * still exists when it returns.
 *
 * Descriptors that a client passes are never received: its session ends, and closer.h closes the socket and them.
 *
 * A client that hangs up is noticed at once, even during a call: its lease or Watch then ends.
 *
 * The session ends if the client does not complete a record, or does not read a reply, within 10 s.
 */

#include <stdint.h>

#include <event2/event.h>
#include <sys/queue.h>

#include "daemon/serve/peer.h"

struct session;

enum session_end_reason {
        SESSION_HUNG_UP,   /* the client hung up, or we closed the session */
        SESSION_EXPIRED,   /* a deadline passed */
        SESSION_MALFORMED, /* the client sent no valid record */
};

struct session_callbacks {
        /*
         * A complete record has arrived. Answer it with session_reply(), at once or later, or end the call without an
         * answer with session_ignore().
         */
        void (*on_record)(struct session *session, const uint8_t *record, size_t length, void *userdata);
        /* The socket has not accepted all of a reply. May be NULL. The callback may abandon any session, including this
         * one. */
        void (*on_output)(struct session *session, void *userdata);
        /* The session is freed after this returns. */
        void (*on_ended)(struct session *session, enum session_end_reason reason, void *userdata);
        void *userdata;
};

/* Takes ownership of fd, also on failure. Returns 0 or -ENOMEM. */
int session_new(struct session **ret_session, struct event_base *loop, int fd, const struct peer *peer,
                const struct session_callbacks *callbacks);
/* Ends the session now; calls on_ended. Do not call it from on_record or on_output. */
void session_close(struct session *session);
/* Frees the unsent rest of its reply now, and lets the loop end the session next. */
void session_abandon(struct session *session);

/*
 * Sends one record as far as the socket accepts it; the loop sends the rest and reads the next call. It may call
 * on_output, but never ends the session. Do not use it after on_ended.
 */
void session_reply(struct session *session, const void *record, size_t length);
void session_ignore(struct session *session);

const struct peer *session_peer(const struct session *session);
/* Monotonic time of the last record or reply. */
uint64_t session_active_usec(const struct session *session);
/* Whether a call of this session is in progress. */
bool session_is_busy(const struct session *session);
/* Whether it has had at least one call. */
bool session_was_served(const struct session *session);
/* Size of the reply that the socket has not completely accepted yet. */
size_t session_output_bytes(const struct session *session);
/* Reads and begins a call that has arrived, without waiting for the next turn of the loop. May end the session. */
void session_serve(struct session *session);

/*
 * Something that must be notified when the session ends: a call in progress, a lease. `gone` is called once, before
 * on_ended, unless session_detach() was called before.
 */
struct session_resource {
        void (*gone)(struct session_resource *resource);
        /* The client sends nothing more, but can still read an answer. May be NULL. The callback may detach the
         * resource. */
        void (*half_closed)(struct session_resource *resource);
        bool keeps; /* a lease or a Set in progress: the session is not evicted */
        LIST_ENTRY(session_resource) link;
};
void session_attach(struct session *session, struct session_resource *resource);
void session_detach(struct session_resource *resource);
bool session_has_resources(const struct session *session);
bool session_is_kept(const struct session *session);
