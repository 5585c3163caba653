#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * One client's connection. Never blocks the loop: a record is collected in whatever pieces it comes, and what the
 * socket does not take of a reply is kept until it does. One call at a time is in work, and one is begun in each turn
 * of the loop; while it is in work, or while the client has not fetched the reply, nothing more is read, so that a
 * client cannot make us keep more than one record and one reply.
 *
 *      socket -> record -> on_record() -> ... session_reply() -> output -> socket
 *
 * Calls are read by the loop alone, and what ends a session is the loop, too: no answer brings another call or takes a
 * session away from under its caller.
 *
 * Descriptors that a client passes are never taken: its session ends, and closer.h closes the socket with them.
 *
 * A client that goes is noticed at once, also while its call is in work: a lease and a watch end then.
 *
 * A record begun and not finished, or a reply not taken, within 10 s ends the session.
 */

#include <stdint.h>

#include <event2/event.h>
#include <sys/queue.h>

#include "daemon/serve/peer.h"

struct session;

enum session_end_reason {
        SESSION_HUNG_UP,   /* the client's doing, or ours for a reason that concerns the client no more */
        SESSION_EXPIRED,   /* a deadline passed */
        SESSION_MALFORMED, /* a record that is none */
};

struct session_callbacks {
        /*
         * A whole record came. The answer is given by session_reply(), at once or later; session_ignore() ends a call
         * that gets none.
         */
        void (*on_record)(struct session *session, const uint8_t *record, size_t length, void *userdata);
        /* The socket has not taken all of a reply. May be NULL. The callee may abandon any session, this one too. */
        void (*on_output)(struct session *session, void *userdata);
        /* The session is gone after this returns. */
        void (*on_ended)(struct session *session, enum session_end_reason reason, void *userdata);
        void *userdata;
};

/* Owns fd, also on failure. */
int session_new(struct session **ret_session, struct event_base *loop, int fd, const struct peer *peer,
                const struct session_callbacks *callbacks);
/* Ends the session from outside, now; calls on_ended. Not while a call or an answer of any session is on the stack. */
void session_close(struct session *session);
/* Frees what is kept of its reply now, and has the loop end it next. */
void session_abandon(struct session *session);

/*
 * Sends one record, as far as the socket takes it; the rest, and the next call, are the loop's. Calls on_output at
 * most, and leaves the session there. Not to be used after on_ended.
 */
void session_reply(struct session *session, const void *record, size_t length);
void session_ignore(struct session *session);

const struct peer *session_peer(const struct session *session);
/* Monotonic time of the last record or reply. */
uint64_t session_active_usec(const struct session *session);
/* A call of this session is in work. */
bool session_is_busy(const struct session *session);
/* Whether it has called at least once. */
bool session_was_served(const struct session *session);
/* What is kept of a reply until the socket takes it. */
size_t session_output_bytes(const struct session *session);
/* Takes a call now that has come, without waiting for the loop's next turn. May end the session. */
void session_serve(struct session *session);

/*
 * Something of the daemon's that must hear of the session's end: a call that is in work, a lease. `gone` is called
 * once, before on_ended; session_detach() takes it back.
 */
struct session_resource {
        void (*gone)(struct session_resource *resource);
        /* May be NULL: the client sends no more, and can still take an answer. It may detach. */
        void (*half_closed)(struct session_resource *resource);
        bool keeps; /* a lease, a Set in progress: the session is not ended for the sake of others */
        LIST_ENTRY(session_resource) link;
};
void session_attach(struct session *session, struct session_resource *resource);
void session_detach(struct session *session, struct session_resource *resource);
bool session_has_resources(const struct session *session);
bool session_is_kept(const struct session *session);
