#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Who is at the other end of a connection, as the kernel tells it; what a caller says of itself counts for nothing. */

#include <stdbool.h>
#include <sys/types.h>

struct peer {
        pid_t pid; /* 0: in a PID namespace that we cannot see */
        uid_t uid;
        gid_t gid;
};

/* Reads the credentials that the kernel took when the peer connected. Returns 0 or negative errno. */
int peer_read(int fd, struct peer *ret_peer);

/* Whether the peer may change what is held: uid 0. */
bool peer_is_admin(const struct peer *peer);
