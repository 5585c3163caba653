/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * `bench-latency SOCKET ADDRESS CALLS CLIENTS SECONDS`: calls GetPersistenceMode as NVML does, with a new connection
 * for each call, from several clients at once, until each has made its calls or the time is over. Prints one duration a
 * line, in nanoseconds (connect, send, read the reply, close), or "failed". It does not decode the reply, so the same
 * program measures the echo server. It prints only at the end, so the reader of its output does not use processor time
 * meanwhile.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "gpu/pci.h"
#include "rpc/nvpd.h"
#include "rpc/record.h"

enum {
        PATIENCE_SEC = 2, /* a call that takes longer counts as failed */
        CALLS_MAX = 1000000,
        CLIENTS_MAX = 256,
        SECONDS_MAX = 3600,
};

static struct {
        struct sockaddr_un server;
        uint8_t request[128];
        size_t request_size;
        uint64_t calls;
        uint64_t clients;
        uint64_t seconds;
        pthread_barrier_t start;
} plan = {.server = {.sun_family = AF_UNIX}};

struct client {
        pthread_t thread;
        long long *nsec; /* of each call; negative: failed */
        size_t n;
};

static void encode(const struct pci_address *address) {
        const struct rpc_call call = {1, NVPD_PROGRAM, NVPD_VERSION_1, NVPD_GET_PERSISTENCE_MODE};
        const struct nvpd_device device = {(int32_t)address->domain, address->bus, address->slot, 0};
        struct xdr_writer writer;

        xdr_writer_init(&writer, plan.request + RECORD_HEADER_SIZE, sizeof(plan.request) - RECORD_HEADER_SIZE);
        rpc_call_encode(&writer, &call);
        nvpd_device_encode(&writer, &device);
        record_header_encode(plan.request, (uint32_t)xdr_writer_size(&writer));
        plan.request_size = RECORD_HEADER_SIZE + xdr_writer_size(&writer);
}

static bool ask(void) {
        const struct timeval patience = {.tv_sec = PATIENCE_SEC};
        char reply[256];
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool answered = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
                        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
                        connect(fd, (const struct sockaddr *)&plan.server, sizeof(plan.server)) == 0 &&
                        send(fd, plan.request, plan.request_size, MSG_NOSIGNAL) > 0 &&
                        read(fd, reply, sizeof(reply)) > 0;

        if (fd >= 0)
                (void)close(fd);
        return answered;
}

static long long now_nsec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void *run_client(void *argument) {
        struct client *client = argument;
        long long begin, end;

        (void)pthread_barrier_wait(&plan.start);
        begin = now_nsec();
        end = begin + (long long)plan.seconds * 1000000000LL;
        for (client->n = 0; client->n < plan.calls && begin < end; client->n++) {
                bool answered = ask();
                long long now = now_nsec();

                client->nsec[client->n] = answered ? now - begin : -1;
                begin = now;
        }
        return NULL;
}

static int start_client(struct client *client) {
        client->nsec = calloc(plan.calls, sizeof(*client->nsec));
        return client->nsec && pthread_create(&client->thread, NULL, run_client, client) == 0 ? 0 : -1;
}

static void finish_client(struct client *client) {
        (void)pthread_join(client->thread, NULL);
        for (size_t i = 0; i < client->n; i++)
                if (client->nsec[i] < 0)
                        puts("failed");
                else
                        printf("%lld\n", client->nsec[i]);
        free(client->nsec);
}

static bool read_plan(char *argv[]) {
        struct pci_address address;

        if (strlen(argv[1]) >= sizeof(plan.server.sun_path) || pci_address_parse(argv[2], &address) < 0 ||
            text_parse_u64(argv[3], 10, CALLS_MAX, &plan.calls) < 0 ||
            text_parse_u64(argv[4], 10, CLIENTS_MAX, &plan.clients) < 0 ||
            text_parse_u64(argv[5], 10, SECONDS_MAX, &plan.seconds) < 0 || plan.clients == 0)
                return false;
        memcpy(plan.server.sun_path, argv[1], strlen(argv[1]));
        encode(&address);
        return pthread_barrier_init(&plan.start, NULL, (unsigned)plan.clients) == 0;
}

int main(int argc, char *argv[]) {
        struct client clients[CLIENTS_MAX] = {0};

        if (argc != 6 || !read_plan(argv)) {
                fprintf(stderr, "usage: bench-latency SOCKET ADDRESS CALLS CLIENTS SECONDS\n");
                return 2;
        }
        for (size_t i = 0; i < plan.clients; i++)
                if (start_client(&clients[i]) < 0) {
                        perror("bench-latency: cannot start a client");
                        return EXIT_FAILURE;
                }
        for (size_t i = 0; i < plan.clients; i++)
                finish_client(&clients[i]);
        return EXIT_SUCCESS;
}
