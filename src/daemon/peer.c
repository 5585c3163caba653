/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/peer.h"

#include <errno.h>
#include <sys/socket.h>

int peer_read(int fd, struct peer *ret_peer) {
        struct ucred credentials;
        socklen_t size = sizeof(credentials);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return -errno;
        *ret_peer = (struct peer){
                .pid = credentials.pid,
                .uid = credentials.uid,
                .gid = credentials.gid,
        };
        return 0;
}

bool peer_is_admin(const struct peer *peer) {
        return peer->uid == 0;
}
