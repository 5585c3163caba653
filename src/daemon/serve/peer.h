#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The identity of a client, and whether it may change which GPUs are held. All information comes from the kernel; what
 * a client says about itself is ignored. It is read when the connection is accepted, so a process that gets the same
 * pid later is not mistaken for the client.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/serve/origin.h"

struct peer {
        int fd;    /* the connection; the session owns it */
        pid_t pid; /* 0: in a PID namespace that we cannot see */
        uid_t uid;
        gid_t gid;
        uint64_t connected_boottime_usec; /* when we accepted it, which is after the client connected */
        struct origin_facts facts;        /* rights are valid for uid 0 only; for others peer_is_admin() finds them */
};

/* Who may change which GPUs are held. All zero is the strictest: only root, and only outside containers. */
struct peer_policy {
        bool has_admin_group;
        gid_t admin_gid; /* members of this group may, if has_admin_group */
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

/* Reads the credentials that the kernel recorded when the peer connected. Returns 0 or negative errno. */
int peer_read(int fd, struct peer *ret_peer);
/* Finds where the process runs. Call it once, right after peer_read(); until then peer_is_host_root() is false. */
void peer_find_origin(struct peer *peer);

/*
 * Whether the peer is root of this host. Root of a container is not, whatever namespaces it shares with the host; nor
 * is a user who is an admin only by the policy.
 */
bool peer_is_host_root(const struct peer *peer);

/* Whether the peer may change which GPUs are held: PEER_ADMIN, or the reason why not. */
enum peer_verdict peer_is_admin(const struct peer *peer, const struct peer_policy *policy);

/* The verdict as the end of a sentence for the log: "refused Set from uid 1, pid 2: <text>". */
const char *peer_verdict_text(enum peer_verdict verdict);
