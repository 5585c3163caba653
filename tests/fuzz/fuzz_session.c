/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A client's stream, through a socket, into the real session, methods and registry, on two GPUs whose opens succeed at
 * once. The first byte selects the client's user, whether it waits for the driver before it hangs up, and the size of
 * the pieces that it sends; the rest is the stream. The daemon must send complete replies, and the session must end
 * with its client.
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "daemon/gpus/worker.h"
#include "daemon/serve/methods.h"
#include "rpc/holdfast.h"
#include "rpc/message.h"
#include "rpc/record.h"
#include "tests/fuzz/fuzz.h"

enum {
        FLAG_ROOT = 0x80,
        FLAG_PATIENT = 0x40,
        PIECE_MASK = 0x3f,
        REPLY_SIZE_MAX = 4096, /* more than a List of two GPUs */
        LIMIT_SEC = 30,        /* takes milliseconds on an idle machine */
};

/* ---- a driver in which every call succeeds at once ---- */

static int driver_list(void *context, struct gpu_info **ret_gpus, size_t *ret_n) {
        struct gpu_info *gpus = calloc(2, sizeof(*gpus));

        if (!gpus)
                return -ENOMEM;
        gpus[0].address.bus = 0x17;
        gpus[1].address.bus = 0x2a;
        gpus[1].minor = 1;
        *ret_gpus = gpus;
        *ret_n = 2;
        return 0;
}

static int driver_open(void *context, const struct pci_address *address, struct gpu_hold *ret_hold,
                       struct gpu_failure *ret_failure) {
        *ret_hold = GPU_HOLD_NONE;
        return 0;
}

static int driver_close(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                        struct gpu_failure *ret_failure) {
        *hold = GPU_HOLD_NONE;
        return 0;
}

static int driver_numa(void *context, const struct pci_address *address, struct gpu_hold *hold, bool online,
                       struct gpu_failure *ret_failure) {
        return 0;
}

static const struct gpu_ops driver_ops = {
        .name = "fuzz",
        .list = driver_list,
        .open = driver_open,
        .close = driver_close,
        .numa_set = driver_numa,
};

/* ---- the daemon around the session: made once ---- */

static struct {
        struct event_base *loop;
        struct worker *worker;
        struct registry *registry;
        struct server *server;
        struct methods methods;
        struct session *session; /* NULL: it has ended */
} daemon_parts;

static struct registry_policy policy_of(const struct gpu_info *info, int index, void *userdata) {
        return (struct registry_policy){.persistence = true};
}

static void on_change(void *userdata) {
        methods_on_change(&daemon_parts.methods);
}

static void ignore(void *userdata) {
}

/* Turns the loop until nothing is in the driver. */
static void settle(void) {
        uint64_t deadline_usec = clock_monotonic_usec() + LIMIT_SEC * USEC_PER_SEC;

        while (!registry_is_ready(daemon_parts.registry) || registry_count(daemon_parts.registry).busy > 0) {
                fuzz_require(clock_monotonic_usec() < deadline_usec);
                fuzz_require(event_base_loop(daemon_parts.loop, EVLOOP_ONCE) == 0);
        }
        (void)event_base_loop(daemon_parts.loop, EVLOOP_NONBLOCK);
}

static void start_daemon(void) {
        const struct server_limits limits = server_limits_for(64);
        struct registry_config config = {
                .ops = &driver_ops,
                .stuck_usec = LIMIT_SEC * USEC_PER_SEC,
                .policy = policy_of,
                .on_change = on_change,
                .on_ready = ignore,
                .on_stopped = ignore,
        };
        int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* no client connects to it */
        const struct sockaddr any = {.sa_family = AF_UNIX};

        fuzz_require(bind(listen_fd, &any, sizeof(any.sa_family)) == 0); /* the kernel chooses a name */
        config.loop = daemon_parts.loop = event_base_new();
        fuzz_require(daemon_parts.loop && worker_new(&daemon_parts.worker, daemon_parts.loop) == 0);
        config.worker = daemon_parts.worker;
        fuzz_require(registry_new(&daemon_parts.registry, &config) == 0);
        fuzz_require(methods_init(&daemon_parts.methods, daemon_parts.loop, driver_ops.name) == 0);
        fuzz_require(server_new(&daemon_parts.server, daemon_parts.loop, listen_fd, &limits, methods_on_record,
                                &daemon_parts.methods) == 0);
        daemon_parts.methods.registry = daemon_parts.registry;
        daemon_parts.methods.server = daemon_parts.server;
        registry_set_polling(daemon_parts.registry, false);
        registry_start(daemon_parts.registry);
        settle();
}

/* ---- one client ---- */

struct client {
        int fd;
        struct record_reader reader;
        uint8_t reply[REPLY_SIZE_MAX];
};

static void on_ended(struct session *session, enum session_end_reason reason, void *userdata) {
        fuzz_require(session == daemon_parts.session);
        daemon_parts.session = NULL;
}

static void connect_client(struct client *client, bool root) {
        const struct session_callbacks callbacks = {
                .on_record = methods_on_record,
                .on_ended = on_ended,
                .userdata = &daemon_parts.methods,
        };
        struct peer peer = {.pid = getpid(), .uid = root ? 0 : 65534};
        int fds[2];

        fuzz_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
        client->fd = fds[0];
        peer.fd = fds[1];
        peer.connected_boottime_usec = clock_usec(CLOCK_BOOTTIME);
        record_reader_init(&client->reader, client->reply, sizeof(client->reply));
        fuzz_require(session_new(&daemon_parts.session, daemon_parts.loop, fds[1], &peer, &callbacks) == 0);
}

static void check_reply(const struct client *client) {
        struct xdr_reader reader;
        struct rpc_reply reply;

        xdr_reader_init(&reader, client->reply, client->reader.length);
        fuzz_require(rpc_reply_decode(&reader, &reply) == 0);
}

/* Reads what has arrived: complete replies, and perhaps the beginning of one. */
static void read_replies(struct client *client) {
        uint8_t bytes[1024];
        ssize_t count;

        while ((count = recv(client->fd, bytes, sizeof(bytes), 0)) > 0)
                for (size_t at = 0, used; at < (size_t)count; at += used) {
                        int r = record_reader_feed(&client->reader, bytes + at, (size_t)count - at, &used);

                        fuzz_require(r >= 0);
                        if (r == RECORD_COMPLETE) {
                                check_reply(client);
                                record_reader_reset(&client->reader);
                        }
                }
}

static void send_stream(struct client *client, const uint8_t *bytes, size_t size, size_t piece) {
        while (size > 0 && daemon_parts.session) {
                ssize_t count = send(client->fd, bytes, size < piece ? size : piece, MSG_NOSIGNAL);

                if (count < 0) /* the session is busy with a call, and its socket is full */
                        break;
                bytes += count;
                size -= (size_t)count;
                (void)event_base_loop(daemon_parts.loop, EVLOOP_NONBLOCK);
                read_replies(client);
        }
}

static void hang_up(struct client *client) {
        client->fd = fd_close(client->fd);
        for (unsigned i = 0; daemon_parts.session && i < REPLY_SIZE_MAX; i++)
                (void)event_base_loop(daemon_parts.loop, EVLOOP_NONBLOCK);
        fuzz_require(!daemon_parts.session);
        fuzz_require(registry_lease_count(daemon_parts.registry) == 0 && LIST_EMPTY(&daemon_parts.methods.watchers));
        settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        CLEANUP(free_ptr) struct client *client = calloc(1, sizeof(*client));

        fuzz_require(client);
        if (size == 0)
                return 0;
        if (!daemon_parts.loop)
                start_daemon();
        connect_client(client, bytes[0] & FLAG_ROOT);
        send_stream(client, bytes + 1, size - 1, (bytes[0] & PIECE_MASK) ? (size_t)(bytes[0] & PIECE_MASK) : size);
        if (bytes[0] & FLAG_PATIENT) {
                settle();
                read_replies(client);
        }
        hang_up(client);
        return 0;
}
