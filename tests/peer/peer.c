/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "tests/peer/peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_unix(const struct sockaddr_un *address) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
                return fd;
        fprintf(stderr, "cannot connect to %s: %s\n", address->sun_path, strerror(errno));
        if (fd >= 0)
                close(fd);
        return -1;
}

CLIENT *peer_connect(const char *path, rpcprog_t program, rpcvers_t version) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct netbuf name = {.maxlen = sizeof(address), .len = sizeof(address), .buf = &address};
        CLIENT *client;
        int fd;

        if (strlen(path) >= sizeof(address.sun_path)) {
                fprintf(stderr, "the path is too long for a socket: %s\n", path);
                return NULL;
        }
        strcpy(address.sun_path, path);
        fd = connect_unix(&address);
        if (fd < 0)
                return NULL;
        client = clnt_vc_create(fd, &name, program, version, 0, 0);
        if (!client) {
                clnt_pcreateerror(path);
                close(fd);
                return NULL;
        }
        clnt_control(client, CLSET_FD_CLOSE, NULL);
        return client;
}

int peer_finish(CLIENT *client, enum clnt_stat outcome) {
        if (outcome != RPC_SUCCESS)
                clnt_perror(client, "no answer");
        clnt_destroy(client);
        return outcome == RPC_SUCCESS ? PEER_ANSWERED : PEER_NO_ANSWER;
}
