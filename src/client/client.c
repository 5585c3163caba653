/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "client/client.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "rpc/record.h"

enum {
        REQUEST_MAX = 128, /* the longest call, SetPersistenceMode, takes 64 */
        REPLY_MAX = 256 * 1024,
        RECEIVE_MAX = 4096, /* at once */
        PATH_SIZE = sizeof(((struct sockaddr_un *)NULL)->sun_path),
};

_Static_assert(REPLY_MAX >= 24 + HF_LIST_HEAD_ENCODED_MAX + HF_GPUS_MAX * HF_GPU_ENCODED_MAX, "the longest List fits");

/*
 *  socket --recv--> received[received_next .. received_end) --record--> reply[] --decode--> results
 *
 * Both stages outlive a call: a call that timed out leaves its answer, perhaps half of it, to be skipped by the next.
 */
struct client {
        int fd; /* -1 once the two sides are out of step */
        pid_t peer_pid;
        uint64_t timeout_usec;
        uint64_t deadline_usec; /* of the call in work */
        uint32_t xid;           /* of the last call; calls count from 1 */
        struct record_reader record;
        size_t received_next;
        size_t received_end;
        char path[PATH_SIZE];
        char error[512];
        uint8_t received[RECEIVE_MAX];
        uint8_t reply[REPLY_MAX];
};

static uint64_t deadline_after(uint64_t timeout_usec) {
        uint64_t now_usec = clock_monotonic_usec();

        return timeout_usec > UINT64_MAX - now_usec ? UINT64_MAX : now_usec + timeout_usec;
}

static uint64_t time_left(uint64_t deadline_usec) {
        uint64_t now_usec = clock_monotonic_usec();

        return deadline_usec > now_usec ? deadline_usec - now_usec : 0;
}

/* Says why the call in work failed, and returns error: return fail(client, -EPROTO, "..."); */
static int fail(struct client *client, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int fail(struct client *client, int error, const char *format, ...) {
        char reason[sizeof(client->error) - PATH_SIZE - 32];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(reason, sizeof(reason), format, arguments);
        va_end(arguments);
        (void)text_format(client->error, sizeof(client->error), "the persistence daemon at %s %s", client->path,
                          reason);
        return error;
}

/* After an error that leaves the two sides out of step, the next answer can no longer be found. */
static int give_up(struct client *client, int error) {
        client->fd = fd_close(client->fd);
        return error;
}

static int fail_late(struct client *client) {
        return fail(client, -ETIMEDOUT,
                    "did not answer within %.1f s: it is busy or stuck; see its log, or try again with more time",
                    (double)client->timeout_usec / (double)USEC_PER_SEC);
}

static int fail_hung_up(struct client *client) {
        return give_up(client, fail(client, -ECONNRESET,
                                    "closed the connection without an answer: it was stopped, or refuses more clients; "
                                    "see its log, and try again"));
}

static int fail_foreign(struct client *client, const char *what) {
        return give_up(client, fail(client, -EPROTO,
                                    "sent %s: what listens there is no persistence daemon; see which program it is "
                                    "with ss -xlp",
                                    what));
}

/* Returns 0 when the socket is ready for events (or broken, which the next system call on it tells). */
static int wait_ready(struct client *client, short events) {
        struct pollfd pollfd = {.fd = client->fd, .events = events};

        for (;;) {
                uint64_t left_usec = time_left(client->deadline_usec);
                struct timespec left = {
                        .tv_sec = (time_t)(left_usec / USEC_PER_SEC),
                        .tv_nsec = (long)(left_usec % USEC_PER_SEC * 1000),
                };
                int count = ppoll(&pollfd, 1, &left, NULL);

                if (count > 0)
                        return 0;
                if (count == 0)
                        return fail_late(client);
                if (errno != EINTR)
                        return give_up(client, fail(client, -errno, "cannot be waited for: %s", strerror(errno)));
        }
}

static int send_bytes(struct client *client, const uint8_t *bytes, size_t size) {
        size_t sent = 0;

        while (sent < size) {
                ssize_t count = send(client->fd, bytes + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
                int r = 0;

                if (count >= 0)
                        sent += (size_t)count;
                else if (errno == EAGAIN)
                        r = wait_ready(client, POLLOUT);
                else if (errno != EINTR)
                        return fail_hung_up(client);
                if (r < 0)
                        return give_up(client, r); /* half a call may be on its way */
        }
        return 0;
}

/* Fills the empty `received`. */
static int receive_bytes(struct client *client) {
        for (;;) {
                ssize_t count = recv(client->fd, client->received, sizeof(client->received), MSG_DONTWAIT);
                int r;

                if (count > 0) {
                        client->received_next = 0;
                        client->received_end = (size_t)count;
                        return 0;
                }
                if (count < 0 && errno == EINTR)
                        continue;
                if (count == 0 || errno != EAGAIN)
                        return fail_hung_up(client);
                r = wait_ready(client, POLLIN);
                if (r < 0)
                        return r;
        }
}

/* Collects one record into `reply`. */
static int receive_record(struct client *client) {
        int r;

        do {
                size_t used;

                if (client->received_next == client->received_end) {
                        r = receive_bytes(client);
                        if (r < 0)
                                return r;
                }
                r = record_reader_feed(&client->record, client->received + client->received_next,
                                       client->received_end - client->received_next, &used);
                if (r < 0)
                        return fail_foreign(client, "a record that is too long or in too many pieces");
                client->received_next += used;
        } while (r != RECORD_COMPLETE);
        return 0;
}

static bool is_of_an_earlier_call(const struct client *client, uint32_t xid) {
        return xid >= 1 && xid < client->xid;
}

/* Waits for the answer to the call in work; answers to calls that were given up are skipped. */
static int receive_reply(struct client *client, struct rpc_reply *ret_reply, struct xdr_reader *ret_results) {
        for (;;) {
                int r = receive_record(client);

                if (r < 0)
                        return r;
                xdr_reader_init(ret_results, client->record.buffer, client->record.length);
                record_reader_reset(&client->record); /* the bytes stay where they are until the next feed */
                if (rpc_reply_decode(ret_results, ret_reply) < 0)
                        return fail_foreign(client, "something that is no RPC reply");
                if (ret_reply->xid == client->xid)
                        return 0;
                if (!is_of_an_earlier_call(client, ret_reply->xid))
                        return fail_foreign(client, "an answer to a question that was not asked");
        }
}

static const struct {
        int error;
        const char *reason;
} rejections[] = {
        [RPC_PROG_UNAVAIL] = {-EOPNOTSUPP, "does not serve this program: it is not Holdfast's, or an older one"},
        [RPC_PROG_MISMATCH] = {-EOPNOTSUPP, "does not serve this version of the program: update the older of the two"},
        [RPC_PROC_UNAVAIL] = {-EOPNOTSUPP, "does not serve this procedure: update the daemon"},
        [RPC_GARBAGE_ARGS] = {-EPROTO, "could not read the call's arguments: is it a persistence daemon?"},
        [RPC_SYSTEM_ERR] = {-EREMOTEIO, "reports an error of its own (out of memory, for one): see its log"},
};

static int check_accepted(struct client *client, const struct rpc_reply *reply) {
        if (reply->denied)
                return fail(client, -EPROTO,
                            "denied the call by RPC version or credentials: is it a persistence daemon?");
        if (reply->accept_status != RPC_SUCCESS)
                return fail(client, rejections[reply->accept_status].error, "%s",
                            rejections[reply->accept_status].reason);
        return 0;
}

/* One call on its way: encode the arguments between call_begin() and call_finish(). */
struct call {
        struct xdr_writer writer;
        uint8_t bytes[RECORD_HEADER_SIZE + REQUEST_MAX];
};

static void call_begin(struct client *client, struct call *call, uint32_t program, uint32_t version,
                       uint32_t procedure) {
        struct rpc_call header = {
                .xid = ++client->xid,
                .program = program,
                .version = version,
                .procedure = procedure,
        };

        client->deadline_usec = deadline_after(client->timeout_usec);
        xdr_writer_init(&call->writer, call->bytes + RECORD_HEADER_SIZE, REQUEST_MAX);
        rpc_call_encode(&call->writer, &header);
}

/* Sends the call and gives a reader that stands at the results. They stay valid until the next call. */
static int call_finish(struct client *client, struct call *call, struct xdr_reader *ret_results) {
        size_t size = xdr_writer_size(&call->writer);
        struct rpc_reply reply;
        int r;

        assert(xdr_writer_ok(&call->writer));
        if (client->fd < 0)
                return fail(client, -ENOTCONN, "cannot be asked over a connection that broke: connect again");
        record_header_encode(call->bytes, (uint32_t)size);
        r = send_bytes(client, call->bytes, RECORD_HEADER_SIZE + size);
        if (r < 0)
                return r;
        r = receive_reply(client, &reply, ret_results);
        if (r < 0)
                return r;
        return check_accepted(client, &reply);
}

static int check_results(struct client *client, const struct xdr_reader *results) {
        return xdr_reader_ok(results)
                       ? 0
                       : fail(client, -EPROTO, "sent an answer that cannot be read: is it a persistence daemon?");
}

static struct nvpd_device device_of(const struct pci_address *address) {
        return (struct nvpd_device){
                .domain = (int32_t)address->domain, .bus = address->bus, .slot = address->slot,
                /* All functions of the device: 0, as every client sends. */
        };
}

int client_get_mode(struct client *client, const struct pci_address *address, uint32_t *ret_status, bool *ret_enabled) {
        struct nvpd_device device = device_of(address);
        struct nvpd_get_result result;
        struct xdr_reader results;
        struct call call;
        int r;

        call_begin(client, &call, NVPD_PROGRAM, NVPD_VERSION_1, NVPD_GET_PERSISTENCE_MODE);
        nvpd_device_encode(&call.writer, &device);
        r = call_finish(client, &call, &results);
        if (r < 0)
                return r;
        nvpd_get_result_decode(&results, &result);
        r = check_results(client, &results);
        if (r < 0)
                return r;
        if (result.mode > NVPD_MODE_ENABLED)
                return fail(client, -EPROTO, "answered with persistence mode %u, which is none", result.mode);
        *ret_status = result.status;
        *ret_enabled = result.mode == NVPD_MODE_ENABLED;
        return 0;
}

int client_set_mode(struct client *client, const struct pci_address *address, bool enabled, uint32_t *ret_status) {
        struct nvpd_set_args args = {
                .device = device_of(address),
                .value = enabled ? NVPD_MODE_ENABLED : NVPD_MODE_DISABLED,
        };
        struct xdr_reader results;
        struct call call;
        uint32_t status;
        int r;

        call_begin(client, &call, NVPD_PROGRAM, NVPD_VERSION_1, NVPD_SET_PERSISTENCE_MODE);
        nvpd_set_args_encode(&call.writer, &args);
        r = call_finish(client, &call, &results);
        if (r < 0)
                return r;
        status = xdr_read_u32(&results);
        r = check_results(client, &results);
        if (r < 0)
                return r;
        *ret_status = status;
        return 0;
}

static int decode_list(struct client *client, struct xdr_reader *results, struct hf_list_head *ret_head,
                       struct hf_gpu **ret_gpus) {
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;
        int r;

        hf_list_head_decode(results, &head);
        /* One more, so that no GPUs at all are an array too. The decoder bounds n_gpus. */
        gpus = calloc((size_t)head.n_gpus + 1, sizeof(*gpus));
        if (!gpus)
                return fail(client, -ENOMEM, "answered, but there is no memory to hold the answer");
        for (uint32_t i = 0; i < head.n_gpus; i++)
                hf_gpu_decode(results, &gpus[i]);
        r = check_results(client, results);
        if (r < 0)
                return r;
        *ret_head = head;
        *ret_gpus = take_ptr(gpus);
        return 0;
}

int client_list(struct client *client, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus) {
        struct xdr_reader results;
        struct call call;
        int r;

        call_begin(client, &call, HF_PROGRAM, HF_VERSION, HF_LIST);
        r = call_finish(client, &call, &results);
        if (r < 0)
                return r;
        return decode_list(client, &results, ret_head, ret_gpus);
}

/*
 * A listener whose queue is full makes connect() wait, for as long as SO_SNDTIMEO says. (Without blocking it would fail
 * at once with EAGAIN, and there is nothing to poll for: unix(7) sockets know no connection in progress.)
 */
static int connect_by(int fd, const struct sockaddr_un *address, uint64_t deadline_usec) {
        for (;;) {
                uint64_t left_usec = time_left(deadline_usec);
                struct timeval left = {
                        .tv_sec = (time_t)(left_usec / USEC_PER_SEC),
                        .tv_usec = (suseconds_t)(left_usec % USEC_PER_SEC),
                };

                if (left_usec == 0)
                        return -ETIMEDOUT; /* and a time of 0 would mean for ever */
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

int client_connect(struct client **ret_client, const char *path, uint64_t timeout_usec) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        CLEANUP(client_done) struct client *client = calloc(1, sizeof(*client));
        int r;

        if (!client)
                return -ENOMEM;
        client->fd = -1; /* client_done() must not close descriptor 0 */
        if (!text_copy(address.sun_path, sizeof(address.sun_path), path))
                return -ENAMETOOLONG;
        client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (client->fd < 0)
                return -errno;
        r = connect_by(client->fd, &address, deadline_after(timeout_usec));
        if (r < 0)
                return r;
        client->timeout_usec = timeout_usec;
        client->peer_pid = read_peer_pid(client->fd);
        (void)text_copy(client->path, sizeof(client->path), path);
        record_reader_init(&client->record, client->reply, sizeof(client->reply));
        *ret_client = take_ptr(client);
        return 0;
}

static const struct {
        int error;
        const char *reason;
} connect_reasons[] = {
        {-EACCES, "this user may not reach the socket: see the permissions of its folder, or become root"},
        {-ECONNREFUSED, "it is not running and left its socket behind: start it (systemctl start nvidia-persistenced)"},
        {-EMFILE, "this process has too many files open"},
        {-ENAMETOOLONG, "a socket's path has at most 107 characters: choose a shorter root"},
        {-ENOENT, "there is no socket, so it is not running: start it (systemctl start nvidia-persistenced)"},
        {-ENOTDIR, "part of the path is no folder: check the root"},
        {-EPROTOTYPE, "the socket is of another kind: it is no persistence daemon's"},
        {-ETIMEDOUT, "it did not accept the connection in time: it is busy or stuck; see its log"},
};

void client_connect_error(char *buffer, size_t size, const char *path, int error) {
        char number[64];
        const char *reason = strerror_r(-error, number, sizeof(number));

        for (size_t i = 0; i < ARRAY_SIZE(connect_reasons); i++)
                if (connect_reasons[i].error == error)
                        reason = connect_reasons[i].reason;
        (void)text_format(buffer, size, "cannot reach a persistence daemon at %s: %s", path, reason);
}

struct client *client_free(struct client *client) {
        if (client)
                client->fd = fd_close(client->fd);
        free(client);
        return NULL;
}

void client_done(struct client **client) {
        *client = client_free(*client);
}

int32_t client_peer_pid(const struct client *client) {
        return client->peer_pid;
}

const char *client_error(const struct client *client) {
        return client->error;
}

int client_socket_path(char *buffer, size_t size, const char *root) {
        if (!root || *root == '\0')
                return text_format(buffer, size, "/var/run/nvidia-persistenced/socket");
        return text_format(buffer, size, "%s/run/nvidia-persistenced/socket", root);
}
