/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "client/connection.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"

int connection_fail(struct connection *connection, int error, const char *format, ...) {
        char reason[sizeof(connection->error) - CONNECTION_PATH_SIZE - 32];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(reason, sizeof(reason), format, arguments);
        va_end(arguments);
        (void)text_format(connection->error, sizeof(connection->error), "the persistence daemon at %s %s",
                          connection->path, reason);
        return error;
}

/* Closes the connection, because the position in the stream, or the matching of answers to calls, is lost. */
static void give_up(struct connection *connection) {
        connection->fd = fd_close(connection->fd);
}

static int fail_late(struct connection *connection) {
        return connection_fail(
                connection, -ETIMEDOUT,
                "did not answer within %.1f s: it is busy or stuck; see its log, or try again with more time",
                (double)connection->timeout_usec / (double)USEC_PER_SEC);
}

static int fail_hung_up(struct connection *connection) {
        give_up(connection);
        return connection_fail(
                connection, -ECONNRESET,
                "closed the connection without an answer: it was stopped, or refuses more clients; see its "
                "log, and try again");
}

static int fail_foreign(struct connection *connection, const char *what) {
        give_up(connection);
        return connection_fail(
                connection, -EPROTO,
                "sent %s: the program that listens there is not a persistence daemon; find it with ss -xlp", what);
}

/* Returns 0 if the socket is ready for events, or broken: then the next system call on it fails. */
static int wait_ready(struct connection *connection, short events) {
        struct pollfd pollfd = {.fd = connection->fd, .events = events};
        uint64_t left_usec = clock_left_usec(connection->deadline_usec);
        struct timespec left = clock_timespec(left_usec);
        /* Do not poll once the time is up: with a peer that never pauses, the socket is always ready. */
        int count = left_usec > 0 ? ppoll(&pollfd, 1, &left, NULL) : 0;

        if (count == 0)
                return fail_late(connection);
        if (count < 0 && errno != EINTR)
                return connection_fail(connection, -errno, "cannot be waited for: %s", strerror(errno));
        return 0; /* also if interrupted: the caller then waits again */
}

static int send_bytes(struct connection *connection, const uint8_t *bytes, size_t size) {
        size_t sent = 0;

        while (sent < size) {
                ssize_t count = send(connection->fd, bytes + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
                int r = 0;

                if (count >= 0)
                        sent += (size_t)count;
                else if (errno == EAGAIN)
                        r = wait_ready(connection, POLLOUT);
                else if (errno != EINTR)
                        return fail_hung_up(connection);
                if (r < 0) {
                        give_up(connection); /* a part of the call may have been sent */
                        return r;
                }
        }
        return 0;
}

/* Fills `received`, which is empty. */
static int receive_bytes(struct connection *connection) {
        ssize_t count;

        do {
                int r = wait_ready(connection, POLLIN);

                if (r < 0)
                        return r;
                count = recv(connection->fd, connection->received, sizeof(connection->received), MSG_DONTWAIT);
        } while (count < 0 && (errno == EINTR || errno == EAGAIN));
        if (count <= 0)
                return fail_hung_up(connection);
        connection->received_next = 0;
        connection->received_end = (size_t)count;
        return 0;
}

/* Collects one record into `reply`. */
static int receive_record(struct connection *connection) {
        int r;

        do {
                size_t used;

                if (connection->received_next == connection->received_end) {
                        r = receive_bytes(connection);
                        if (r < 0)
                                return r;
                }
                r = record_reader_feed(&connection->record, connection->received + connection->received_next,
                                       connection->received_end - connection->received_next, &used);
                if (r < 0)
                        return fail_foreign(connection, "a record that is too long or in too many pieces");
                connection->received_next += used;
        } while (r != RECORD_COMPLETE);
        return 0;
}

static bool is_of_an_earlier_call(const struct connection *connection, uint32_t xid) {
        return xid >= 1 && xid < connection->xid;
}

/* Waits for the answer to the current call; skips answers to calls that timed out. */
static int receive_reply(struct connection *connection, struct rpc_reply *ret_reply, struct xdr_reader *ret_results) {
        for (;;) {
                int r = receive_record(connection);

                if (r < 0)
                        return r;
                xdr_reader_init(ret_results, connection->record.buffer, connection->record.length);
                record_reader_reset(&connection->record); /* the bytes stay valid until the next feed */
                if (rpc_reply_decode(ret_results, ret_reply) < 0)
                        return fail_foreign(connection, "something that is not an RPC reply");
                if (ret_reply->xid == connection->xid)
                        return 0;
                if (!is_of_an_earlier_call(connection, ret_reply->xid))
                        return fail_foreign(connection, "a reply to a call that was not made");
        }
}

static const struct {
        int error;
        const char *reason;
} rejections[] = {
        [RPC_PROG_UNAVAIL] = {-EOPNOTSUPP, "does not support this call: it is NVIDIA's daemon, or an older Holdfast"},
        [RPC_PROG_MISMATCH] = {-EOPNOTSUPP,
                               "does not support this version of the protocol: update the older of the two programs"},
        [RPC_PROC_UNAVAIL] = {-EOPNOTSUPP, "does not support this call: update the daemon"},
        [RPC_GARBAGE_ARGS] = {-EPROTO, "could not read the call's arguments: is it a persistence daemon?"},
        [RPC_SYSTEM_ERR] = {-EREMOTEIO, "reports an internal error (for example out of memory): see its log"},
};

static int check_accepted(struct connection *connection, const struct rpc_reply *reply) {
        if (reply->denied)
                return connection_fail(
                        connection, -EPROTO,
                        "refused the RPC version or the credentials of the call: is it a persistence daemon?");
        if (reply->accept_status != RPC_SUCCESS)
                return connection_fail(connection, rejections[reply->accept_status].error, "%s",
                                       rejections[reply->accept_status].reason);
        return 0;
}

void connection_begin_call(struct connection *connection, struct connection_call *call, uint32_t program,
                           uint32_t version, uint32_t procedure) {
        struct rpc_call header = {
                .xid = ++connection->xid,
                .program = program,
                .version = version,
                .procedure = procedure,
        };

        connection->deadline_usec = clock_deadline_usec(connection->timeout_usec);
        xdr_writer_init(&call->writer, call->bytes + RECORD_HEADER_SIZE, CONNECTION_CALL_MAX);
        rpc_call_encode(&call->writer, &header);
}

static int fail_broken(struct connection *connection) {
        return connection_fail(connection, -ENOTCONN, "cannot be called over a broken connection: connect again");
}

int connection_send_call(struct connection *connection, struct connection_call *call) {
        size_t size = xdr_writer_size(&call->writer);

        assert(xdr_writer_ok(&call->writer));
        if (connection->fd < 0)
                return fail_broken(connection);
        record_header_encode(call->bytes, (uint32_t)size);
        return send_bytes(connection, call->bytes, RECORD_HEADER_SIZE + size);
}

static int receive_answer(struct connection *connection, struct xdr_reader *ret_results) {
        struct rpc_reply reply;
        int r;

        r = receive_reply(connection, &reply, ret_results);
        return r < 0 ? r : check_accepted(connection, &reply);
}

int connection_take_answer(struct connection *connection, struct xdr_reader *ret_results) {
        if (connection->fd < 0)
                return fail_broken(connection);
        connection->deadline_usec = clock_deadline_usec(connection->timeout_usec);
        return receive_answer(connection, ret_results);
}

int connection_finish_call(struct connection *connection, struct connection_call *call,
                           struct xdr_reader *ret_results) {
        int r = connection_send_call(connection, call);

        return r < 0 ? r : receive_answer(connection, ret_results);
}

/*
 * If the listener's queue is full, connect() blocks until the end of SO_SNDTIMEO. A nonblocking connect() cannot be
 * used: it fails at once with EAGAIN, and Unix sockets cannot be polled for a connection in progress.
 */
static int connect_by(int fd, const struct sockaddr_un *address, uint64_t deadline_usec) {
        for (;;) {
                uint64_t left_usec = clock_left_usec(deadline_usec);
                struct timeval left = clock_timeval(left_usec);

                if (left_usec == 0)
                        return -ETIMEDOUT; /* a timeout of 0 would mean for ever */
                if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof(left)) < 0)
                        return -errno;
                if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
                        return 0;
                if (errno != EINTR && errno != EAGAIN)
                        return -errno;
        }
}

static pid_t read_peer_pid(int fd) {
        struct ucred peer = {0};
        socklen_t size = sizeof(peer);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

int connection_init(struct connection *connection, const char *path, uint64_t timeout_usec) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        CLEANUP(fd_done) int fd = -1;
        int r;

        connection->fd = -1;
        if (!text_copy(address.sun_path, sizeof(address.sun_path), path))
                return -ENAMETOOLONG;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        r = connect_by(fd, &address, clock_deadline_usec(timeout_usec));
        if (r < 0)
                return r;
        connection->peer_pid = read_peer_pid(fd);
        connection->timeout_usec = timeout_usec;
        memcpy(connection->path, address.sun_path, sizeof(connection->path));
        record_reader_init(&connection->record, connection->reply, sizeof(connection->reply));
        connection->fd = take_fd(&fd);
        return 0;
}

void connection_done(struct connection *connection) {
        connection->fd = fd_close(connection->fd);
}
