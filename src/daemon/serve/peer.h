#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Who is at the other end of a connection, as the kernel tells it, and whether that may change what is held. What a
 * caller says of itself counts for nothing. All of it is found when the connection is taken, so that no process that
 * gets its pid later can be taken for it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/serve/origin.h"

struct peer {
        int fd;    /* the connection; its owner is the session */
        pid_t pid; /* 0: in a PID namespace that we cannot see */
        uid_t uid;
        gid_t gid;
        uint64_t connected_boottime_usec; /* when the connection was taken: not before it was made */
        struct origin_facts facts;        /* rights of uid 0 only; for others peer_is_admin() asks */
};

/* Who may change what is held. All zero is the strictest: root, outside of containers. */
struct peer_policy {
        bool has_admin_group;
        gid_t admin_gid; /* its members may, with has_admin_group */
        bool allow_containers;
};

enum peer_verdict {
        PEER_ADMIN,
        PEER_NOT_ROOT,
        PEER_IN_CONTAINER,
        PEER_IN_USER_NAMESPACE,
        PEER_WITHOUT_RIGHTS,
        PEER_GONE,
        PEER_UNKNOWN,
};

/* Reads the credentials that the kernel took when the peer connected. Returns 0 or negative errno. */
int peer_read(int fd, struct peer *ret_peer);
/* Finds where the process runs; call it once, at once. Nobody is root of this host before. */
void peer_find_origin(struct peer *peer);

/* Root of this host: not a container's, whatever namespaces it shares, and nobody whom the policy makes an admin. */
bool peer_is_host_root(const struct peer *peer);

/* Whether the peer may change what is held (PEER_ADMIN), or why not (anything else). */
enum peer_verdict peer_is_admin(const struct peer *peer, const struct peer_policy *policy);

/* The verdict as the end of a sentence for the log: "refused Set from uid 1, pid 2: <text>". */
const char *peer_verdict_text(enum peer_verdict verdict);
