/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The client, connected by a real socket to a fake daemon: a thread that runs a script of the test. */

#include "client/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "client/connection.h"
#include "rpc/record.h"
#include "tests/unit/gpus.h"

enum {
        PATIENCE_USEC = 20000000,  /* limit for an answer that arrives: reached only if the test fails */
        IMPATIENCE_USEC = 50000,   /* limit for an answer that does not arrive: each such test waits this long */
        LIST_ENCODED_MAX = 300000, /* more than the client accepts */
};

/* What the daemon does with a connection before it closes it. */
typedef void daemon_script(int fd);

struct daemon {
        char folder[32];
        char path[64];
        int listener;
        daemon_script *script;
        pthread_t thread;
};

static void *serve_one(void *data) {
        struct daemon *daemon = data;
        CLEANUP(fd_done) int fd = accept4(daemon->listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0)
                daemon->script(fd);
        return NULL;
}

static int listen_at(const char *path, int backlog) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_true(text_copy(address.sun_path, sizeof(address.sun_path), path));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, backlog), 0);
        return fd;
}

static void daemon_init(struct daemon *daemon) {
        *daemon = (struct daemon){.folder = "/tmp/holdfast-client-XXXXXX", .listener = -1};
        assert_non_null(mkdtemp(daemon->folder));
        assert_int_equal(text_format(daemon->path, sizeof(daemon->path), "%s/socket", daemon->folder), 0);
}

static void daemon_start(struct daemon *daemon, daemon_script *script) {
        daemon_init(daemon);
        daemon->script = script;
        daemon->listener = listen_at(daemon->path, 8);
        assert_int_equal(pthread_create(&daemon->thread, NULL, serve_one, daemon), 0);
}

/* The client has been freed: every script ends when the client closes the connection. */
static void daemon_done(struct daemon *daemon) {
        if (daemon->script)
                assert_int_equal(pthread_join(daemon->thread, NULL), 0);
        daemon->listener = fd_close(daemon->listener);
        (void)unlink(daemon->path);
        (void)rmdir(daemon->folder);
}

#define DAEMON(script_function)                                                                                        \
        CLEANUP(daemon_done) struct daemon daemon;                                                                     \
        daemon_start(&daemon, script_function)

static struct client *connect_to(const struct daemon *daemon, uint64_t timeout_usec) {
        struct client *client = NULL;

        assert_int_equal(client_connect(&client, daemon->path, timeout_usec), 0);
        return client;
}

static const struct pci_address gpu = {.domain = 0x10000, .bus = 0x17, .slot = 3};

static int get(struct client *client, uint32_t *ret_status, bool *ret_enabled) {
        return client_get_mode(client, &gpu, ret_status, ret_enabled);
}

static int ask(struct client *client) {
        uint32_t status;
        bool enabled;

        return get(client, &status, &enabled);
}

static void assert_enabled(struct client *client) {
        uint32_t status = NVPD_UNKNOWN;
        bool enabled = false;

        assert_int_equal(get(client, &status, &enabled), 0);
        assert_int_equal(status, NVPD_SUCCESS);
        assert_true(enabled);
}

/* ---- the daemon's side ---- */

struct call {
        struct rpc_call header;
        struct xdr_reader args;
        uint8_t bytes[4400]; /* a Release of HF_GPUS_MAX fits */
};

/* Returns false at the end of the stream. */
static bool read_call(int fd, struct call *call) {
        struct record_reader record;
        size_t used;
        uint8_t byte;

        record_reader_init(&record, call->bytes, sizeof(call->bytes));
        do
                if (read(fd, &byte, 1) != 1)
                        return false;
        while (record_reader_feed(&record, &byte, 1, &used) == RECORD_INCOMPLETE);
        xdr_reader_init(&call->args, record.buffer, record.length);
        return rpc_call_decode(&call->args, &call->header) == RPC_CALL_OK;
}

/* Returns false when nobody reads any more. */
static bool send_bytes(int fd, const void *bytes, size_t size) {
        for (size_t sent = 0; sent < size;) {
                ssize_t count = send(fd, (const uint8_t *)bytes + sent, size - sent, MSG_NOSIGNAL);

                if (count < 0)
                        return false;
                sent += (size_t)count;
        }
        return true;
}

/* Waits until the client closes the connection. */
static void wait_for_end(int fd) {
        uint8_t byte;

        while (read(fd, &byte, 1) > 0)
                ;
}

struct reply {
        struct xdr_writer writer;
        uint8_t bytes[RECORD_HEADER_SIZE + 64];
};

static void reply_begin(struct reply *reply) {
        xdr_writer_init(&reply->writer, reply->bytes + RECORD_HEADER_SIZE, sizeof(reply->bytes) - RECORD_HEADER_SIZE);
}

static size_t reply_finish(struct reply *reply) {
        size_t size = xdr_writer_size(&reply->writer);

        record_header_encode(reply->bytes, (uint32_t)size);
        return RECORD_HEADER_SIZE + size;
}

static size_t encode_mode(struct reply *reply, uint32_t xid, uint32_t status, uint32_t mode) {
        struct nvpd_get_result result = {.status = status, .mode = mode};

        reply_begin(reply);
        rpc_encode_accepted(&reply->writer, xid, RPC_SUCCESS);
        nvpd_get_result_encode(&reply->writer, &result);
        return reply_finish(reply);
}

static bool send_mode(int fd, uint32_t xid, uint32_t status, uint32_t mode) {
        struct reply reply;
        size_t size = encode_mode(&reply, xid, status, mode);

        return send_bytes(fd, reply.bytes, size);
}

static void say_enabled(int fd) {
        struct call call;

        while (read_call(fd, &call))
                (void)send_mode(fd, call.header.xid, NVPD_SUCCESS, NVPD_MODE_ENABLED);
}

/* Answers: only GPU 10000:17:03 exists, it is enabled, and disabling it is refused. */
static bool answer_truly(int fd, struct call *call) {
        bool is_set = call->header.procedure == NVPD_SET_PERSISTENCE_MODE;
        struct nvpd_set_args args = {.value = NVPD_MODE_ENABLED};
        uint32_t status = NVPD_SUCCESS;
        struct reply reply;

        if (!is_set)
                nvpd_device_decode(&call->args, &args.device);
        else
                nvpd_set_args_decode(&call->args, &args);
        if (args.device.domain != 0x10000 || args.device.bus != 0x17 || args.device.slot != 3 || args.device.function)
                status = NVPD_DEVICE_NOT_FOUND;
        else if (args.value != NVPD_MODE_ENABLED)
                status = NVPD_PERMISSIONS;
        if (!is_set)
                return send_mode(fd, call->header.xid, status, NVPD_MODE_ENABLED);
        reply_begin(&reply);
        rpc_encode_accepted(&reply.writer, call->header.xid, RPC_SUCCESS);
        xdr_write_u32(&reply.writer, status);
        return send_bytes(fd, reply.bytes, reply_finish(&reply));
}

static void serve_truly(int fd) {
        struct call call;

        while (read_call(fd, &call) && xdr_reader_left(&call.args) <= 20 && answer_truly(fd, &call))
                ;
}

static void one_connection_serves_many_calls(void **state) {
        struct pci_address other = {.bus = 1};
        DAEMON(serve_truly);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        uint32_t status = NVPD_UNKNOWN;
        bool enabled = true;

        assert_int_equal(client_peer_pid(client), getpid());
        assert_enabled(client);
        assert_int_equal(client_get_mode(client, &other, &status, &enabled), 0);
        assert_int_equal(status, NVPD_DEVICE_NOT_FOUND);
        assert_false(enabled);
        assert_int_equal(client_set_mode(client, &gpu, true, &status), 0);
        assert_int_equal(status, NVPD_SUCCESS);
        assert_int_equal(client_set_mode(client, &gpu, false, &status), 0);
        assert_int_equal(status, NVPD_PERMISSIONS);
        assert_int_equal(client_set_mode(client, &other, true, &status), 0);
        assert_int_equal(status, NVPD_DEVICE_NOT_FOUND);
        assert_string_equal(client_error(client), "");
}

static void answer_bytewise(int fd) {
        struct reply reply;
        struct call call;
        size_t size;

        if (!read_call(fd, &call))
                return;
        size = encode_mode(&reply, call.header.xid, NVPD_SUCCESS, NVPD_MODE_ENABLED);
        for (size_t i = 0; i < size; i++)
                (void)send_bytes(fd, reply.bytes + i, 1);
        wait_for_end(fd);
}

static void an_answer_may_arrive_byte_by_byte(void **state) {
        DAEMON(answer_bytewise);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);

        assert_enabled(client);
}

/* Each word of the answer is a fragment, and an empty fragment ends the record. */
static void answer_in_fragments(int fd) {
        static const uint8_t last[] = {0x80, 0, 0, 0};
        struct reply reply;
        struct call call;
        size_t size;

        if (!read_call(fd, &call))
                return;
        size = encode_mode(&reply, call.header.xid, NVPD_SUCCESS, NVPD_MODE_ENABLED);
        for (size_t i = RECORD_HEADER_SIZE; i < size; i += 4) {
                uint8_t fragment[8] = {0, 0, 0, 4};

                memcpy(fragment + 4, reply.bytes + i, 4);
                (void)send_bytes(fd, fragment, sizeof(fragment));
        }
        (void)send_bytes(fd, last, sizeof(last));
        wait_for_end(fd);
}

static void an_answer_may_arrive_in_fragments(void **state) {
        DAEMON(answer_in_fragments);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);

        assert_enabled(client);
}

static void be_silent(int fd) {
        wait_for_end(fd);
}

static void a_call_without_an_answer_fails_at_the_deadline(void **state) {
        DAEMON(be_silent);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, IMPATIENCE_USEC);
        uint64_t start_usec = clock_monotonic_usec();

        assert_int_equal(ask(client), -ETIMEDOUT);
        assert_true(clock_monotonic_usec() - start_usec >= IMPATIENCE_USEC);
        assert_non_null(strstr(client_error(client), daemon.path));
}

/* Sends the first answer in two parts: one before the deadline, the rest after the second call. */
static void answer_late(int fd) {
        struct call first, next;
        struct reply reply;
        size_t size;

        if (!read_call(fd, &first))
                return;
        size = encode_mode(&reply, first.header.xid, NVPD_DEVICE_NOT_FOUND, 0);
        (void)send_bytes(fd, reply.bytes, 10);
        if (!read_call(fd, &next))
                return;
        (void)send_bytes(fd, reply.bytes + 10, size - 10);
        (void)send_mode(fd, next.header.xid, NVPD_SUCCESS, NVPD_MODE_ENABLED);
        say_enabled(fd);
}

static void the_next_call_skips_a_late_answer(void **state) {
        DAEMON(answer_late);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, IMPATIENCE_USEC);
        uint32_t status = NVPD_UNKNOWN;
        bool enabled;
        int r;

        assert_int_equal(ask(client), -ETIMEDOUT);
        /* On a busy machine this call may time out, too; then the next call has one more answer to skip. */
        do
                r = get(client, &status, &enabled);
        while (r == -ETIMEDOUT);
        assert_int_equal(r, 0);
        assert_int_equal(status, NVPD_SUCCESS);
}

/* Sends many at once, because the client must not find the socket empty. */
static void answer_the_first_call_for_ever(int fd) {
        enum { AT_ONCE = 2000 };
        CLEANUP(free_ptr) uint8_t *bytes = NULL;
        struct reply reply;
        struct call call;
        size_t size;

        if (!read_call(fd, &call))
                return;
        size = encode_mode(&reply, call.header.xid, NVPD_SUCCESS, NVPD_MODE_ENABLED);
        bytes = malloc(AT_ONCE * size);
        for (size_t i = 0; bytes && i < AT_ONCE; i++)
                memcpy(bytes + i * size, reply.bytes, size);
        while (bytes && send_bytes(fd, bytes, AT_ONCE * size))
                ;
}

static void endless_stale_answers_do_not_extend_the_deadline(void **state) {
        DAEMON(answer_the_first_call_for_ever);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, IMPATIENCE_USEC);

        (void)ask(client); /* successful or not: after it, all answers are stale */
        assert_int_equal(ask(client), -ETIMEDOUT);
}

static void answer_before_being_asked(int fd) {
        (void)send_mode(fd, 1, NVPD_SUCCESS, NVPD_MODE_ENABLED);
        wait_for_end(fd);
}

static void free_connection(struct connection **connection) {
        connection_done(*connection);
        free(*connection);
}

/* Otherwise a peer that always has data could keep the client busy forever. */
static void nothing_is_read_after_the_deadline(void **state) {
        DAEMON(answer_before_being_asked);
        CLEANUP(free_connection) struct connection *connection = calloc(1, sizeof(*connection));
        struct pollfd readable = {.events = POLLIN};
        struct connection_call call;
        struct xdr_reader results;

        assert_int_equal(connection_init(connection, daemon.path, PATIENCE_USEC), 0);
        readable.fd = connection->fd;
        assert_int_equal(poll(&readable, 1, -1), 1);
        connection->timeout_usec = 0;
        connection_begin_call(connection, &call, NVPD_PROGRAM, NVPD_VERSION_1, 0);
        assert_int_equal(connection_finish_call(connection, &call, &results), -ETIMEDOUT);
}

static void hang_up_when_asked(int fd) {
        struct call call;

        (void)read_call(fd, &call);
}

static void a_closed_connection_is_reported_and_later_calls_fail(void **state) {
        DAEMON(hang_up_when_asked);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;

        assert_int_equal(ask(client), -ECONNRESET);
        assert_non_null(strstr(client_error(client), daemon.path));
        assert_non_null(strstr(client_error(client), "closed the connection"));
        assert_int_equal(ask(client), -ENOTCONN);
        assert_non_null(strstr(client_error(client), "connect again"));
        assert_int_equal(client_watch_end(client, &head, &gpus), -ENOTCONN);
}

static void hang_up_within_the_answer(int fd) {
        struct reply reply;
        struct call call;

        if (!read_call(fd, &call))
                return;
        (void)encode_mode(&reply, call.header.xid, NVPD_SUCCESS, NVPD_MODE_ENABLED);
        (void)send_bytes(fd, reply.bytes, 17);
}

static void a_connection_closed_within_the_answer_is_an_error(void **state) {
        DAEMON(hang_up_within_the_answer);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);

        assert_int_equal(ask(client), -ECONNRESET);
}

static void hang_up_at_once(int fd) {
        (void)fd;
}

static void a_call_on_a_closed_connection_raises_no_signal(void **state) {
        DAEMON(hang_up_at_once);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);

        /* The daemon's end is closed: SIGPIPE would kill this test. */
        assert_int_equal(pthread_join(daemon.thread, NULL), 0);
        daemon.script = NULL;
        assert_int_equal(ask(client), -ECONNRESET);
}

static void answer_another_question(int fd) {
        struct call call;

        if (!read_call(fd, &call))
                return;
        (void)send_mode(fd, call.header.xid + 1, NVPD_SUCCESS, NVPD_MODE_ENABLED);
        wait_for_end(fd);
}

static void speak_http(int fd) {
        static const char text[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

        (void)send_bytes(fd, text, strlen(text));
        wait_for_end(fd);
}

static void answer_with_a_call(int fd) {
        static const uint8_t bytes[] = {0x80, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2};

        (void)send_bytes(fd, bytes, sizeof(bytes));
        wait_for_end(fd);
}

static void answer_with_nothing(int fd) {
        static const uint8_t bytes[] = {0x80, 0, 0, 0};

        (void)send_bytes(fd, bytes, sizeof(bytes));
        wait_for_end(fd);
}

static void answer_in_endless_fragments(int fd) {
        static const uint8_t empty[4];

        while (send_bytes(fd, empty, sizeof(empty)))
                ;
}

static void an_invalid_answer_is_reported_and_later_calls_fail(void **state) {
        static daemon_script *const scripts[] = {
                answer_another_question,     speak_http, answer_with_a_call, answer_with_nothing,
                answer_in_endless_fragments,
        };

        for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
                DAEMON(scripts[i]);
                CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);

                assert_int_equal(ask(client), -EPROTO);
                assert_non_null(strstr(client_error(client), daemon.path));
                assert_non_null(strstr(client_error(client), "ss -xlp"));
                assert_int_equal(ask(client), -ENOTCONN);
        }
}

static bool send_accepted(int fd, uint32_t xid, enum rpc_accept_status status) {
        struct reply reply;

        reply_begin(&reply);
        if (status == RPC_PROG_MISMATCH)
                rpc_encode_program_mismatch(&reply.writer, xid, 1, 2);
        else
                rpc_encode_accepted(&reply.writer, xid, status);
        return send_bytes(fd, reply.bytes, reply_finish(&reply));
}

/* The daemon rejects a call in each of these ways, and then answers. */
static const struct {
        enum rpc_accept_status status;
        int error;
} rejections[] = {
        {RPC_PROG_UNAVAIL, -EOPNOTSUPP}, {RPC_PROG_MISMATCH, -EOPNOTSUPP}, {RPC_PROC_UNAVAIL, -EOPNOTSUPP},
        {RPC_GARBAGE_ARGS, -EPROTO},     {RPC_SYSTEM_ERR, -EREMOTEIO},
};

static void reject_in_every_way(int fd) {
        struct call call;

        for (size_t i = 0; i < ARRAY_SIZE(rejections); i++)
                if (!read_call(fd, &call) || !send_accepted(fd, call.header.xid, rejections[i].status))
                        return;
        say_enabled(fd);
}

static void a_rejected_call_leaves_the_connection_usable(void **state) {
        DAEMON(reject_in_every_way);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);

        for (size_t i = 0; i < ARRAY_SIZE(rejections); i++) {
                assert_int_equal(ask(client), rejections[i].error);
                assert_non_null(strstr(client_error(client), daemon.path));
        }
        assert_enabled(client);
}

static void deny(int fd) {
        struct reply reply;
        struct call call;

        if (!read_call(fd, &call))
                return;
        reply_begin(&reply);
        rpc_encode_version_mismatch(&reply.writer, call.header.xid);
        (void)send_bytes(fd, reply.bytes, reply_finish(&reply));
        wait_for_end(fd);
}

static void a_denied_call_is_reported(void **state) {
        DAEMON(deny);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);

        assert_int_equal(ask(client), -EPROTO);
        assert_non_null(strstr(client_error(client), "refused the RPC version"));
}

/* Success without a status, without a mode, and with an invalid mode. */
static void answer_incompletely(int fd) {
        struct reply reply;
        struct call call;

        if (!read_call(fd, &call) || !send_accepted(fd, call.header.xid, RPC_SUCCESS))
                return;
        if (!read_call(fd, &call))
                return;
        reply_begin(&reply);
        rpc_encode_accepted(&reply.writer, call.header.xid, RPC_SUCCESS);
        xdr_write_u32(&reply.writer, NVPD_SUCCESS);
        (void)send_bytes(fd, reply.bytes, reply_finish(&reply));
        if (!read_call(fd, &call))
                return;
        (void)send_mode(fd, call.header.xid, NVPD_SUCCESS, NVPD_MODE_ENABLED + 1);
        wait_for_end(fd);
}

static void results_that_cannot_be_decoded_are_an_error(void **state) {
        DAEMON(answer_incompletely);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);

        for (int i = 0; i < 3; i++)
                assert_int_equal(ask(client), -EPROTO);
}

/* A List whose head announces n_told GPUs, followed by n_sent GPUs of the maximum size. */
static void send_list(int fd, uint32_t n_told, uint32_t n_sent) {
        CLEANUP(free_ptr) uint8_t *bytes = malloc(LIST_ENCODED_MAX);
        struct hf_gpu longest = gpus_longest();
        struct hf_list_head head = gpus_head(n_told);
        struct xdr_writer writer;
        struct call call;

        if (!read_call(fd, &call) || call.header.program != HF_PROGRAM || call.header.procedure != HF_LIST)
                return;
        xdr_writer_init(&writer, bytes + RECORD_HEADER_SIZE, LIST_ENCODED_MAX - RECORD_HEADER_SIZE);
        rpc_encode_accepted(&writer, call.header.xid, RPC_SUCCESS);
        hf_list_head_encode(&writer, &head);
        for (uint32_t i = 0; i < n_sent; i++) {
                longest.minor = (int32_t)i;
                hf_gpu_encode(&writer, &longest);
        }
        if (!xdr_writer_ok(&writer))
                return;
        record_header_encode(bytes, (uint32_t)xdr_writer_size(&writer));
        (void)send_bytes(fd, bytes, RECORD_HEADER_SIZE + xdr_writer_size(&writer));
        wait_for_end(fd);
}

static void list_none(int fd) {
        send_list(fd, 0, 0);
}

static void list_the_most(int fd) {
        send_list(fd, HF_GPUS_MAX, HF_GPUS_MAX);
}

static void list_one_more(int fd) {
        send_list(fd, HF_GPUS_MAX + 1, HF_GPUS_MAX + 1);
}

static void list_one_less(int fd) {
        send_list(fd, HF_GPUS_MAX, HF_GPUS_MAX - 1);
}

static void list_more_than_fits(int fd) {
        send_list(fd, HF_GPUS_MAX, 340);
}

static void the_longest_list_is_read(void **state) {
        DAEMON(list_the_most);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;

        assert_int_equal(client_list(client, &head, &gpus), 0);
        assert_int_equal(head.n_gpus, HF_GPUS_MAX);
        assert_int_equal(head.pid, 4711);
        for (int i = 0; i < HF_GPUS_MAX; i++) {
                assert_int_equal(gpus[i].minor, i);
                assert_int_equal(strlen(gpus[i].error_text), HF_TEXT_SIZE - 1);
        }
}

static void an_empty_list_is_read(void **state) {
        DAEMON(list_none);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;

        assert_int_equal(client_list(client, &head, &gpus), 0);
        assert_int_equal(head.n_gpus, 0);
        assert_string_equal(head.backend, "kernel");
}

static void an_invalid_list_is_refused(void **state) {
        static daemon_script *const scripts[] = {list_one_more, list_one_less, list_more_than_fits};

        for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
                DAEMON(scripts[i]);
                CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
                struct hf_gpu *gpus = NULL;
                struct hf_list_head head;

                assert_int_equal(client_list(client, &head, &gpus), -EPROTO);
                assert_null(gpus);
        }
}

/* ---- Watch, Stats, Configured, Release ---- */

/* Answers with a List whose serial is one more than the caller's. */
static void watch_one_on(int fd) {
        struct hf_list_head head = gpus_head(0);
        uint8_t bytes[RECORD_HEADER_SIZE + 256];
        struct xdr_writer writer;
        struct call call;

        if (!read_call(fd, &call) || call.header.program != HF_PROGRAM || call.header.procedure != HF_WATCH)
                return;
        head.serial = xdr_read_u64(&call.args) + 1;
        if (!xdr_reader_ok(&call.args) || xdr_reader_left(&call.args) != 0)
                return;
        xdr_writer_init(&writer, bytes + RECORD_HEADER_SIZE, sizeof(bytes) - RECORD_HEADER_SIZE);
        rpc_encode_accepted(&writer, call.header.xid, RPC_SUCCESS);
        hf_list_head_encode(&writer, &head);
        record_header_encode(bytes, (uint32_t)xdr_writer_size(&writer));
        (void)send_bytes(fd, bytes, RECORD_HEADER_SIZE + xdr_writer_size(&writer));
        wait_for_end(fd);
}

static void watch_sends_the_serial_and_reads_a_list(void **state) {
        DAEMON(watch_one_on);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;

        assert_int_equal(client_watch(client, UINT64_C(0x123456789abcdef0), &head, &gpus), 0);
        assert_true(head.serial == UINT64_C(0x123456789abcdef1));
        assert_int_equal(head.n_gpus, 0);
        assert_non_null(gpus);
}

static void a_watch_without_a_change_ends_at_the_deadline(void **state) {
        DAEMON(be_silent);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, IMPATIENCE_USEC);
        struct hf_gpu *gpus = NULL;
        struct hf_list_head head;

        assert_int_equal(client_watch(client, 1, &head, &gpus), -ETIMEDOUT);
        assert_null(gpus);
}

/* The client's limit starts anew when the answer is read. */
static void between_its_two_steps_a_watch_may_be_polled_without_a_time_limit(void **state) {
        DAEMON(watch_one_on);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, IMPATIENCE_USEC);
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;
        struct pollfd pollfd = {.fd = client_fd(client), .events = POLLIN};

        assert_int_equal(client_watch_begin(client, 7), 0);
        assert_int_equal(poll(&pollfd, 1, PATIENCE_USEC / USEC_PER_MSEC), 1);
        assert_int_equal(poll(NULL, 0, IMPATIENCE_USEC / USEC_PER_MSEC + 1), 0); /* exceeds the limit since the call */
        assert_int_equal(client_watch_end(client, &head, &gpus), 0);
        assert_true(head.serial == 8);
}

static void a_watch_becomes_readable_and_fails_when_the_daemon_hangs_up(void **state) {
        DAEMON(hang_up_when_asked);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        struct pollfd pollfd = {.fd = client_fd(client), .events = POLLIN};
        struct hf_gpu *gpus = NULL;
        struct hf_list_head head;

        assert_int_equal(client_watch_begin(client, 7), 0);
        assert_int_equal(poll(&pollfd, 1, PATIENCE_USEC / USEC_PER_MSEC), 1);
        assert_int_equal(client_watch_end(client, &head, &gpus), -ECONNRESET);
        assert_int_equal(client_fd(client), -1);
}

/* Answers with Stats; the second answer lacks the last word. */
static void give_stats(int fd) {
        struct hf_stats stats = gpus_stats();

        for (size_t missing = 0; missing <= 4; missing += 4) {
                uint8_t bytes[RECORD_HEADER_SIZE + 128];
                struct xdr_writer writer;
                struct call call;
                size_t size;

                if (!read_call(fd, &call) || call.header.program != HF_PROGRAM || call.header.procedure != HF_STATS)
                        return;
                xdr_writer_init(&writer, bytes + RECORD_HEADER_SIZE, sizeof(bytes) - RECORD_HEADER_SIZE);
                rpc_encode_accepted(&writer, call.header.xid, RPC_SUCCESS);
                hf_stats_encode(&writer, &stats);
                size = xdr_writer_size(&writer) - missing;
                record_header_encode(bytes, (uint32_t)size);
                (void)send_bytes(fd, bytes, RECORD_HEADER_SIZE + size);
        }
        wait_for_end(fd);
}

static void stats_are_read_completely_or_refused(void **state) {
        DAEMON(give_stats);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        const struct hf_stats expected = gpus_stats();
        struct hf_stats stats = {0};

        assert_int_equal(client_stats(client, &stats), 0);
        assert_true(stats.accepted == expected.accepted);
        assert_int_equal(stats.refused, expected.refused);
        stats = (struct hf_stats){.sessions = 4711};
        assert_int_equal(client_stats(client, &stats), -EPROTO);
        assert_int_equal(stats.sessions, 4711);
}

/* Answers with two GPUs, then with the last word missing, then with more GPUs than the limit. */
static void give_configured(int fd) {
        for (int turn = 0; turn < 3; turn++) {
                uint8_t bytes[RECORD_HEADER_SIZE + 128];
                struct hf_gpu_configured gpus[] = {gpus_configured(true), gpus_configured(false)};
                struct xdr_writer writer;
                struct call call;
                size_t size;

                if (!read_call(fd, &call) || call.header.program != HF_PROGRAM ||
                    call.header.procedure != HF_CONFIGURED || xdr_reader_left(&call.args) != 0)
                        return;
                xdr_writer_init(&writer, bytes + RECORD_HEADER_SIZE, sizeof(bytes) - RECORD_HEADER_SIZE);
                rpc_encode_accepted(&writer, call.header.xid, RPC_SUCCESS);
                xdr_write_u32(&writer, turn == 2 ? HF_GPUS_MAX + 1 : 2);
                for (size_t i = 0; i < ARRAY_SIZE(gpus); i++)
                        hf_gpu_configured_encode(&writer, &gpus[i]);
                size = xdr_writer_size(&writer) - (turn == 1 ? 4 : 0);
                record_header_encode(bytes, (uint32_t)size);
                (void)send_bytes(fd, bytes, RECORD_HEADER_SIZE + size);
        }
        wait_for_end(fd);
}

static void configured_gpus_are_read_completely_or_refused(void **state) {
        DAEMON(give_configured);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        CLEANUP(free_ptr) struct hf_gpu_configured *gpus = NULL;
        struct hf_gpu_configured *none = NULL;
        size_t n = 0, n_none = 4711;

        assert_int_equal(client_configured(client, &gpus, &n), 0);
        assert_int_equal(n, 2);
        assert_int_equal(gpus[1].address.bus, gpus_configured(false).address.bus);
        assert_true(gpus[0].persistence && !gpus[0].uvm_persistence);
        assert_true(!gpus[1].persistence && gpus[1].uvm_persistence);
        for (int turn = 1; turn < 3; turn++) {
                assert_int_equal(client_configured(client, &none, &n_none), -EPROTO);
                assert_null(none);
                assert_int_equal(n_none, 4711);
        }
}

/* The status is the number of GPUs named, 100 for all, or 99 if an address is not the expected one. */
static void count_leases(int fd) {
        struct hf_release_head head;
        struct reply reply;
        struct call call;

        while (read_call(fd, &call) && call.header.program == HF_PROGRAM && call.header.procedure == HF_RELEASE) {
                uint32_t status;

                hf_release_head_decode(&call.args, &head);
                status = head.all ? 100 : head.n_gpus;
                for (uint32_t i = 0; i < head.n_gpus; i++) {
                        struct hf_address address;

                        hf_address_decode(&call.args, &address);
                        if (address.domain != 0x10000 || address.bus != 0x17 || address.slot != 3 ||
                            address.function != 0)
                                status = 99;
                }
                if (!xdr_reader_ok(&call.args) || xdr_reader_left(&call.args) != 0)
                        return;
                reply_begin(&reply);
                rpc_encode_accepted(&reply.writer, call.header.xid, RPC_SUCCESS);
                xdr_write_u32(&reply.writer, status);
                if (!send_bytes(fd, reply.bytes, reply_finish(&reply)))
                        return;
        }
}

static void a_lease_names_its_gpus_or_all(void **state) {
        DAEMON(count_leases);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        struct pci_address addresses[HF_GPUS_MAX];
        uint32_t status = NVPD_UNKNOWN;

        for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
                addresses[i] = gpu;
        assert_int_equal(client_lease(client, NULL, 0, &status), 0);
        assert_int_equal(status, 100);
        assert_int_equal(client_lease(client, addresses, 3, &status), 0);
        assert_int_equal(status, 3);
        assert_int_equal(client_lease(client, addresses, ARRAY_SIZE(addresses), &status), 0);
        assert_int_equal(status, HF_GPUS_MAX);
}

static void watch_stats_and_lease_are_reported_as_unsupported_by_another_daemon(void **state) {
        DAEMON(reject_in_every_way);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        struct hf_gpu *gpus = NULL;
        struct hf_list_head head;
        struct hf_stats stats;
        uint32_t status;

        assert_int_equal(client_watch(client, 1, &head, &gpus), -EOPNOTSUPP);
        assert_int_equal(client_stats(client, &stats), -EOPNOTSUPP);
        assert_int_equal(client_lease(client, NULL, 0, &status), -EOPNOTSUPP);
        assert_null(gpus);
}

static void an_older_daemon_without_configured_is_reported_as_unsupported(void **state) {
        DAEMON(reject_in_every_way);
        CLEANUP(client_done) struct client *client = connect_to(&daemon, PATIENCE_USEC);
        struct hf_gpu_configured *gpus = NULL;
        size_t n = 0;

        for (int i = 0; i < 3; i++) /* rejected for its program, version and procedure */
                assert_int_equal(client_configured(client, &gpus, &n), -EOPNOTSUPP);
        assert_null(gpus);
}

static void assert_no_connection(const char *path, int expected, const char *what_to_do) {
        struct client *client = NULL;
        char text[512];

        assert_int_equal(client_connect(&client, path, IMPATIENCE_USEC), expected);
        assert_null(client);
        client_connect_error(text, sizeof(text), path, expected);
        assert_non_null(strstr(text, path));
        assert_non_null(strstr(text, what_to_do));
}

static void a_failed_connection_is_reported_with_what_to_do(void **state) {
        char long_path[109] = "/";
        CLEANUP(daemon_done) struct daemon daemon;

        daemon_init(&daemon);
        assert_no_connection(daemon.path, -ENOENT, "start it");
        daemon.listener = listen_at(daemon.path, 1);
        daemon.listener = fd_close(daemon.listener);
        assert_no_connection(daemon.path, -ECONNREFUSED, "left its socket behind");
        memset(long_path + 1, 'x', sizeof(long_path) - 2);
        assert_no_connection(long_path, -ENAMETOOLONG, "shorter");
}

/* The daemon never accepts. A queue of length 0 takes one connection; the next one waits. */
static void a_connect_to_a_full_queue_waits_until_the_deadline(void **state) {
        CLEANUP(daemon_done) struct daemon daemon;

        daemon_init(&daemon);
        daemon.listener = listen_at(daemon.path, 0);
        CLEANUP(client_done) struct client *first = connect_to(&daemon, PATIENCE_USEC);
        uint64_t start_usec = clock_monotonic_usec();

        assert_int_equal(client_peer_pid(first), getpid());
        assert_no_connection(daemon.path, -ETIMEDOUT, "busy or stuck");
        assert_true(clock_monotonic_usec() - start_usec >= IMPATIENCE_USEC);
}

static void the_socket_is_below_the_root(void **state) {
        const struct locations system = locations_of("", false), other = locations_of("/srv/sim", false);
        char path[64];

        assert_int_equal(client_socket_path(path, sizeof(path), &system), 0);
        assert_string_equal(path, "/var/run/nvidia-persistenced/socket");
        assert_int_equal(client_socket_path(path, sizeof(path), &other), 0);
        assert_string_equal(path, "/srv/sim/run/nvidia-persistenced/socket");
        assert_int_equal(client_socket_path(path, 8, &other), -ENAMETOOLONG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_connection_serves_many_calls),
                cmocka_unit_test(an_answer_may_arrive_byte_by_byte),
                cmocka_unit_test(an_answer_may_arrive_in_fragments),
                cmocka_unit_test(a_call_without_an_answer_fails_at_the_deadline),
                cmocka_unit_test(the_next_call_skips_a_late_answer),
                cmocka_unit_test(endless_stale_answers_do_not_extend_the_deadline),
                cmocka_unit_test(nothing_is_read_after_the_deadline),
                cmocka_unit_test(a_closed_connection_is_reported_and_later_calls_fail),
                cmocka_unit_test(a_connection_closed_within_the_answer_is_an_error),
                cmocka_unit_test(a_call_on_a_closed_connection_raises_no_signal),
                cmocka_unit_test(an_invalid_answer_is_reported_and_later_calls_fail),
                cmocka_unit_test(a_rejected_call_leaves_the_connection_usable),
                cmocka_unit_test(a_denied_call_is_reported),
                cmocka_unit_test(results_that_cannot_be_decoded_are_an_error),
                cmocka_unit_test(the_longest_list_is_read),
                cmocka_unit_test(an_empty_list_is_read),
                cmocka_unit_test(an_invalid_list_is_refused),
                cmocka_unit_test(watch_sends_the_serial_and_reads_a_list),
                cmocka_unit_test(a_watch_without_a_change_ends_at_the_deadline),
                cmocka_unit_test(between_its_two_steps_a_watch_may_be_polled_without_a_time_limit),
                cmocka_unit_test(a_watch_becomes_readable_and_fails_when_the_daemon_hangs_up),
                cmocka_unit_test(stats_are_read_completely_or_refused),
                cmocka_unit_test(configured_gpus_are_read_completely_or_refused),
                cmocka_unit_test(a_lease_names_its_gpus_or_all),
                cmocka_unit_test(watch_stats_and_lease_are_reported_as_unsupported_by_another_daemon),
                cmocka_unit_test(an_older_daemon_without_configured_is_reported_as_unsupported),
                cmocka_unit_test(a_failed_connection_is_reported_with_what_to_do),
                cmocka_unit_test(a_connect_to_a_full_queue_waits_until_the_deadline),
                cmocka_unit_test(the_socket_is_below_the_root),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
