/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * `bench-latency SOCKET ADDRESS CALLS`: GetPersistenceMode as NVML does it, a new connection for each call. Prints one
 * duration a line, in nanoseconds: connect, send, read the reply, close. The reply's bytes are not looked at, so that
 * the same program measures the echo server.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "gpu/pci.h"
#include "rpc/nvpd.h"
#include "rpc/record.h"

struct request {
        uint8_t bytes[128];
        size_t size;
};

static void encode(struct request *request, const struct pci_address *address) {
        const struct rpc_call call = {1, NVPD_PROGRAM, NVPD_VERSION_1, NVPD_GET_PERSISTENCE_MODE};
        const struct nvpd_device device = {(int32_t)address->domain, address->bus, address->slot, 0};
        struct xdr_writer writer;

        xdr_writer_init(&writer, request->bytes + RECORD_HEADER_SIZE, sizeof(request->bytes) - RECORD_HEADER_SIZE);
        rpc_call_encode(&writer, &call);
        nvpd_device_encode(&writer, &device);
        record_header_encode(request->bytes, (uint32_t)xdr_writer_size(&writer));
        request->size = RECORD_HEADER_SIZE + xdr_writer_size(&writer);
}

static int ask(const struct sockaddr_un *server, const struct request *request) {
        char reply[256];
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int failed = fd < 0 || connect(fd, (const struct sockaddr *)server, sizeof(*server)) < 0 ||
                     send(fd, request->bytes, request->size, MSG_NOSIGNAL) < 0 || read(fd, reply, sizeof(reply)) <= 0;

        if (fd >= 0)
                (void)close(fd);
        return failed ? -1 : 0;
}

static long long now_nsec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char *argv[]) {
        struct sockaddr_un server = {.sun_family = AF_UNIX};
        struct pci_address address;
        struct request request;

        if (argc != 4 || strlen(argv[1]) >= sizeof(server.sun_path) || pci_address_parse(argv[2], &address) < 0) {
                fprintf(stderr, "usage: bench-latency SOCKET ADDRESS CALLS\n");
                return 2;
        }
        memcpy(server.sun_path, argv[1], strlen(argv[1]));
        encode(&request, &address);
        for (long i = 0; i < strtol(argv[3], NULL, 10); i++) {
                long long begin = now_nsec();

                if (ask(&server, &request) < 0) {
                        perror("bench-latency");
                        return EXIT_FAILURE;
                }
                printf("%lld\n", now_nsec() - begin);
        }
        return EXIT_SUCCESS;
}
