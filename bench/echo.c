/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The limit for a daemon's latency: accept, one read, one write of the size of a Get's reply, close. It serves one
 * connection after another and decodes nothing. `bench-echo SOCKET` prints "ready" and serves until it is killed.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { REPLY_SIZE = 36 };

static int listen_at(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
                return -1;
        memcpy(address.sun_path, path, strlen(path));
        if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, SOMAXCONN) < 0)
                return -1;
        return fd;
}

static void serve(int fd) {
        char request[256], reply[REPLY_SIZE] = {0};

        if (read(fd, request, sizeof(request)) > 0 && write(fd, reply, sizeof(reply)) < 0)
                perror("bench-echo: write");
        (void)close(fd);
}

int main(int argc, char *argv[]) {
        int listen_fd = argc == 2 ? listen_at(argv[1]) : -1;

        if (listen_fd < 0) {
                perror("usage: bench-echo SOCKET");
                return EXIT_FAILURE;
        }
        puts("ready");
        (void)fflush(stdout);
        for (;;) {
                int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

                if (fd >= 0)
                        serve(fd);
        }
}
