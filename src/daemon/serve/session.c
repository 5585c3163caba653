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
         * A call has a header of 24 bytes, at most 2 x 408 bytes of credentials and verifier, and arguments. Those of
         * Release are the longest: 8 bytes, and 16 for each of at most HF_GPUS_MAX GPUs.
         */
        SESSION_RECORD_MAX = 24 + 2 * 408 + 8 + 16 * HF_GPUS_MAX,
        SESSION_READ_MAX = 4096,   /* bytes at once */
        SESSION_SEND_BYTES = 4096, /* bytes; the kernel doubles it */
};

struct session {
        struct session_callbacks callbacks;
        struct peer peer;
        int fd;
        struct event *readable;
        struct event *writable;
        struct event *closed; /* the client hung up during its call, while we do not read */
        struct event *deadline;
        struct event *abandoned; /* lets the loop end the session */
        uint64_t active_usec;

        struct record_reader reader;
        uint8_t record[SESSION_RECORD_MAX];

        uint8_t *output; /* a reply that the socket has not completely accepted yet; NULL: none */
        size_t output_length, output_sent;

        LIST_HEAD(, session_resource) resources;
        bool busy;        /* a call is in progress */
        bool served;      /* it has had at least one call */
        bool replied;     /* it has had at least one answer */
        bool full;        /* the client has not read its replies: its next call is not read */
        bool half_closed; /* the client has shut down its sending side only */
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

/* Called from the loop's callbacks only: code that answers a call relies on the session afterwards. */
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
 * Looks at what the client has sent, without receiving it. Returns the number of bytes; 0 at the end of the stream;
 * -EAGAIN if there is nothing; -EBADMSG if the client passed descriptors; or other negative errno.
 *
 * A descriptor that we received would be closed in this thread (closer.h). Since we offer no room for control data, the
 * kernel reports passed descriptors by MSG_CTRUNC. It closes none of them: with MSG_PEEK they stay in the socket.
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
 * Reads one call at most, and nothing behind it: the rest is for the next turn of the loop. Returns RECORD_COMPLETE if
 * session->record contains a call; RECORD_INCOMPLETE; -EBADMSG if the data is invalid or has descriptors; -ENOTCONN if
 * the connection is over.
 *
 * Descriptors that arrive between session_peek() and recv() are not received: the kernel hands them out with the bytes
 * they were sent with (unix_stream_read_generic()), and those come after the bytes that were peeked at. recv() asks for
 * no more than these.
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

/* Sends as much of the output as possible. Returns false if the connection is over. */
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

/* Enables exactly those events that the session waits for. Returns 0, or nonzero on failure. */
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
        else if (!event_pending(session->deadline, EV_TIMEOUT, NULL)) /* counts from the first byte */
                r |= event_add(session->deadline, &limit);
        return r;
}

/* The callback answers or ignores the call, now or later. The next call is read in another turn of the loop. */
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

/*
 * Whether the client has read its replies. The kernel reports the socket as writable even if a little is still unread.
 */
static bool has_fetched(const struct session *session) {
        struct pollfd pollfd = {.fd = session->fd, .events = POLLOUT};

        return poll(&pollfd, 1, 0) != 0;
}

/* Unread replies use our memory, so the next call is not read until the client has read them. */
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

/* Answers a Watch at once. Other calls are answered when they are done. */
static void session_tell_half_closed(struct session *session) {
        struct session_resource *resource;

        LIST_FOREACH(resource, &session->resources, link)
                if (resource->half_closed) {
                        resource->half_closed(resource); /* this changes the list */
                        return;
                }
}

/*
 * The client may have shut down its sending side only, and still read. The session is then kept until the reply is
 * sent; sending fails if the client is gone.
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
 * A small send buffer, since unread replies use our memory. Out-of-band bytes are read like others: otherwise the
 * kernel would drop such a byte when we read past it, and close descriptors that came with it.
 */
static void prepare_socket(int fd) {
        const int send_bytes = SESSION_SEND_BYTES, yes = 1;

        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
        (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &yes, sizeof(yes));
}

/* Has no effect in a loop without priorities. An event is NULL if it could not be created. */
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
         * Nothing is read here, although this would save a turn of the loop: a client that ends its lease and then asks
         * on another connection must find the lease ended. The loop gets both events in that order.
         */
        if (!session->readable || !session->writable || !session->closed || !session->deadline || !session->abandoned ||
            session_arm(session) != 0) {
                session_free(session);
                return -ENOMEM;
        }
        *ret_session = session;
        return 0;
}

/* Stores the whole record as output; session_flush() sends it. */
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

/* If sending fails, the loop notices: the socket then counts as writable. */
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

void session_detach(struct session_resource *resource) {
        LIST_REMOVE(resource, link);
}

bool session_is_kept(const struct session *session) {
        const struct session_resource *resource;

        LIST_FOREACH(resource, &session->resources, link)
                if (resource->keeps)
                        return true;
        return false;
}

bool session_has_resources(const struct session *session) {
        return !LIST_EMPTY(&session->resources);
}
