/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/session.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "daemon/serve/closer.h"
#include "rpc/holdfast.h"
#include "rpc/record.h"

enum {
        SESSION_DEADLINE_SEC = 10,
        /*
         * A call has 24 bytes of header, at most 2 x 408 of credentials and verifier, and its arguments: the longest
         * are Release's, 8 bytes and 16 for each GPU, of which there are at most HF_GPUS_MAX.
         */
        SESSION_RECORD_MAX = 24 + 2 * 408 + 8 + 16 * HF_GPUS_MAX,
        SESSION_READ_MAX = 4096,   /* at once */
        SESSION_SEND_BYTES = 4096, /* the kernel doubles it */
};

struct session {
        struct session_callbacks callbacks;
        struct peer peer;
        int fd;
        struct event *readable;
        struct event *writable;
        struct event *closed; /* the client has gone while we do not read: its call is in work */
        struct event *deadline;
        struct event *abandoned; /* the loop ends the session */
        uint64_t active_usec;

        struct record_reader reader;
        uint8_t record[SESSION_RECORD_MAX];

        uint8_t *output; /* what the socket has not taken yet; NULL: nothing */
        size_t output_length, output_sent;

        LIST_HEAD(, session_resource) resources;
        bool busy;        /* a call is in work */
        bool served;      /* at least one call has come */
        bool replied;     /* and was answered */
        bool full;        /* the client has not fetched what was sent: its next call waits */
        bool half_closed; /* the client sends no more, and reads on */
};

static void session_free(struct session *session) {
        if (session->readable)
                event_free(session->readable);
        if (session->writable)
                event_free(session->writable);
        if (session->closed)
                event_free(session->closed);
        if (session->deadline)
                event_free(session->deadline);
        if (session->abandoned)
                event_free(session->abandoned);
        closer_close(session->fd);
        free(session->output);
        free(session);
}

/* Only from the loop's callbacks: whoever answers a call must find the session when it returns. */
static void session_end(struct session *session, enum session_end_reason reason) {
        while (!LIST_EMPTY(&session->resources)) {
                struct session_resource *resource = LIST_FIRST(&session->resources);

                LIST_REMOVE(resource, link);
                resource->gone(resource);
        }
        session->callbacks.on_ended(session, reason, session->callbacks.userdata);
        session_free(session);
}

void session_close(struct session *session) {
        session_end(session, SESSION_HUNG_UP);
}

static void session_drop_output(struct session *session) {
        free(session->output);
        session->output = NULL;
}

void session_abandon(struct session *session) {
        session_drop_output(session);
        (void)event_del(session->readable);
        (void)event_del(session->writable);
        (void)event_del(session->closed);
        (void)event_del(session->deadline);
        event_active(session->abandoned, EV_TIMEOUT, 0);
}

static void on_abandoned(evutil_socket_t fd, short what, void *userdata) {
        session_close(userdata);
}

/*
 * Looks at what the client has sent, without taking it. Returns the number of bytes, 0 at the end of the stream,
 * -EAGAIN when there is nothing, -EBADMSG when descriptors lie among them, or other negative errno.
 *
 * A descriptor that we took would be closed in this thread (closer.h). Without room for control data a look at one is
 * marked MSG_CTRUNC, and takes a reference that is dropped again: the last one stays in the socket.
 */
static ssize_t session_peek(const struct session *session, void *buffer, size_t size) {
        struct iovec bytes = {.iov_base = buffer, .iov_len = size};
        struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
        ssize_t count = recvmsg(session->fd, &message, MSG_PEEK | MSG_DONTWAIT);

        if (count < 0)
                return -errno;
        return message.msg_flags & MSG_CTRUNC ? -EBADMSG : count;
}

/*
 * Takes one call at most, and nothing that was sent behind it: the rest is for the next turn of the loop. Returns
 * RECORD_COMPLETE when session->record has a call, RECORD_INCOMPLETE, -EBADMSG for what is none, -ENOTCONN when the
 * connection is over.
 *
 * Descriptors may arrive between the look and the read. The read asks for no more than what was looked at, and the
 * kernel takes bytes in the order in which they were sent (unix_stream_read_generic()): it passes over the end of a
 * message without descriptors, and ends behind the first one with them. So it would take them with the bytes behind
 * those that were looked at, which it is not asked for.
 */
static int session_read(struct session *session) {
        uint8_t bytes[SESSION_READ_MAX];
        ssize_t count = session_peek(session, bytes, sizeof(bytes));
        size_t used;
        int r;

        if (count == -EAGAIN || count == -EINTR)
                return RECORD_INCOMPLETE;
        if (count <= 0)
                return count == -EBADMSG ? -EBADMSG : -ENOTCONN;
        r = record_reader_feed(&session->reader, bytes, (size_t)count, &used);
        if (r < 0)
                return -EBADMSG;
        return recv(session->fd, bytes, used, MSG_DONTWAIT) == (ssize_t)used ? r : -ENOTCONN;
}

/* Sends what it can of the output. Returns false when the connection is over. */
static bool session_flush(struct session *session) {
        while (session->output) {
                ssize_t count = send(session->fd, session->output + session->output_sent,
                                     session->output_length - session->output_sent, MSG_NOSIGNAL);

                if (count < 0)
                        return errno == EAGAIN || errno == EINTR;
                session->output_sent += (size_t)count;
                if (session->output_sent == session->output_length) {
                        session_drop_output(session);
                        (void)event_del(session->deadline);
                }
        }
        return true;
}

/* Listens for what the session waits for, and no more. */
static int session_arm(struct session *session) {
        static const struct timeval limit = {.tv_sec = SESSION_DEADLINE_SEC};
        bool reads = !session->busy && !session->output && !session->full;
        bool owed = session->output || (!session->busy && record_reader_is_partial(&session->reader));
        int r = 0;

        r |= reads ? event_add(session->readable, NULL) : event_del(session->readable);
        r |= session->output || session->full ? event_add(session->writable, NULL) : event_del(session->writable);
        r |= session->busy && !session->half_closed ? event_add(session->closed, NULL) : event_del(session->closed);
        if (!owed)
                r |= event_del(session->deadline);
        else if (!event_pending(session->deadline, EV_TIMEOUT, NULL)) /* from the first byte: trickling does not help */
                r |= event_add(session->deadline, &limit);
        return r;
}

/* The call is answered or not, now or later; the next one is read in another turn of the loop. */
static void session_begin_call(struct session *session) {
        size_t length = session->reader.length;

        session->busy = true;
        session->served = true;
        session->active_usec = clock_monotonic_usec();
        (void)event_del(session->deadline);
        record_reader_reset(&session->reader);
        session->callbacks.on_record(session, session->record, length, session->callbacks.userdata);
        if (session->busy && session_arm(session) != 0)
                session_abandon(session);
}

/* Whether the client has read its replies: the socket counts as writable, though a little may be left unread. */
static bool has_fetched(const struct session *session) {
        struct pollfd pollfd = {.fd = session->fd, .events = POLLOUT};

        return poll(&pollfd, 1, 0) != 0;
}

/* Unread replies count against our memory, so the next call of a client that does not read them is not read. */
static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        struct session *session = userdata;

        int r = RECORD_INCOMPLETE;

        session->full = session->replied && !record_reader_is_partial(&session->reader) && !has_fetched(session);
        if (!session->full)
                r = session_read(session);
        if (r == RECORD_COMPLETE)
                session_begin_call(session);
        else if (r < 0 || session_arm(session) != 0)
                session_end(session, r == -EBADMSG ? SESSION_MALFORMED : SESSION_HUNG_UP);
}

/* A Watch is answered now; every other call is answered when it is done. */
static void session_tell_half_closed(struct session *session) {
        for (struct session_resource *resource = LIST_FIRST(&session->resources); resource;
             resource = LIST_NEXT(resource, link))
                if (resource->half_closed) {
                        resource->half_closed(resource); /* changes the list */
                        return;
                }
}

/*
 * The client may have shut down its sending side only, and still read: then the session is kept until the reply was
 * sent, and the sending tells whether the client is gone.
 */
static void on_peer_closed(evutil_socket_t fd, short what, void *userdata) {
        struct session *session = userdata;
        struct pollfd pollfd = {.fd = fd};

        session->half_closed = poll(&pollfd, 1, 0) == 0;
        if (session->half_closed)
                session_tell_half_closed(session);
        else
                session_close(session);
}

static void on_writable(evutil_socket_t fd, short what, void *userdata) {
        struct session *session = userdata;

        session->full = false;
        if (!session_flush(session) || session_arm(session) != 0)
                session_close(session);
}

static void on_deadline(evutil_socket_t fd, short what, void *userdata) {
        session_end(userdata, SESSION_EXPIRED);
}

/*
 * Unread replies count against our memory: a small buffer for them. And a byte sent out of band is a byte like others:
 * otherwise the kernel would drop it when we read past it, with the descriptors that came with it.
 */
static void prepare_socket(int fd) {
        const int send_bytes = SESSION_SEND_BYTES, yes = 1;

        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
        (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &yes, sizeof(yes));
}

/* Does nothing in a loop without priorities, nor to events that could not be made. */
static void put_first(struct session *session) {
        struct event *const events[] = {session->readable, session->writable, session->closed, session->abandoned};

        for (size_t i = 0; i < ARRAY_SIZE(events); i++)
                if (events[i])
                        (void)event_priority_set(events[i], 0);
}

int session_new(struct session **ret_session, struct event_base *loop, int fd, const struct peer *peer,
                const struct session_callbacks *callbacks) {
        struct session *session = calloc(1, sizeof(*session));

        if (!session) {
                closer_close(fd);
                return -ENOMEM;
        }
        prepare_socket(fd);
        session->fd = fd;
        session->peer = *peer;
        session->callbacks = *callbacks;
        session->active_usec = clock_monotonic_usec();
        record_reader_init(&session->reader, session->record, sizeof(session->record));
        session->readable = event_new(loop, fd, EV_READ | EV_PERSIST, on_readable, session);
        session->writable = event_new(loop, fd, EV_WRITE, on_writable, session);
        session->closed = event_new(loop, fd, EV_CLOSED, on_peer_closed, session);
        session->deadline = event_new(loop, -1, 0, on_deadline, session);
        session->abandoned = event_new(loop, -1, 0, on_abandoned, session);
        if (peer_is_host_root(peer))
                put_first(session);
        /*
         * Not read at once, which would save a turn of the loop: a client that ends its lease and then asks on another
         * connection must find the lease ended, and the kernel tells of both in that order.
         */
        if (!session->readable || !session->writable || !session->closed || !session->deadline || !session->abandoned ||
            session_arm(session) != 0) {
                session_free(session);
                return -ENOMEM;
        }
        *ret_session = session;
        return 0;
}

/* The whole record is queued, and sent at once as far as the socket takes it. */
static int session_queue(struct session *session, const void *record, size_t length) {
        session->output = malloc(RECORD_HEADER_SIZE + length);
        if (!session->output)
                return -ENOMEM;
        record_header_encode(session->output, (uint32_t)length);
        memcpy(session->output + RECORD_HEADER_SIZE, record, length);
        session->output_length = RECORD_HEADER_SIZE + length;
        session->output_sent = 0;
        return 0;
}

/* A socket that takes nothing more is found out by the loop, as one that has become writable. */
void session_reply(struct session *session, const void *record, size_t length) {
        session->busy = false;
        session->replied = true;
        session->active_usec = clock_monotonic_usec();
        if (session_queue(session, record, length) < 0) {
                session_abandon(session);
                return;
        }
        (void)session_flush(session);
        if (session_arm(session) != 0)
                session_abandon(session);
        else if (session->output && session->callbacks.on_output)
                session->callbacks.on_output(session, session->callbacks.userdata);
}

void session_ignore(struct session *session) {
        session->busy = false;
        if (session_arm(session) != 0)
                session_abandon(session);
}

const struct peer *session_peer(const struct session *session) {
        return &session->peer;
}

uint64_t session_active_usec(const struct session *session) {
        return session->active_usec;
}

bool session_is_busy(const struct session *session) {
        return session->busy;
}

bool session_was_served(const struct session *session) {
        return session->served;
}

size_t session_output_bytes(const struct session *session) {
        return session->output ? session->output_length : 0;
}

void session_serve(struct session *session) {
        on_readable(session->fd, EV_READ, session);
}

void session_attach(struct session *session, struct session_resource *resource) {
        LIST_INSERT_HEAD(&session->resources, resource, link);
}

void session_detach(struct session *session, struct session_resource *resource) {
        LIST_REMOVE(resource, link);
}

bool session_is_kept(const struct session *session) {
        for (const struct session_resource *resource = LIST_FIRST(&session->resources); resource;
             resource = LIST_NEXT(resource, link))
                if (resource->keeps)
                        return true;
        return false;
}

bool session_has_resources(const struct session *session) {
        return !LIST_EMPTY(&session->resources);
}
