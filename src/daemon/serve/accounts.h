#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Counts the sessions of each account, so that one account cannot take away a session that another one uses.
 *
 *      root of this host      no limit of its own, and slots that are reserved for it
 *      a user                 a uid in a PID namespace: uid 1000 of a container is not uid 1000 of the host
 *      shared                 all users beyond ACCOUNTS_MAX: with a user namespace one person can have 65,536 uids
 */

#include "daemon/serve/peer.h"

enum { ACCOUNTS_MAX = 32 };

struct account {
        uid_t uid;
        uint64_t pid_namespace;
        unsigned n_sessions; /* 0: free for another user */
};

struct accounts {
        struct account root;
        struct account shared;
        struct account users[ACCOUNTS_MAX];
};

/* The account of a peer: its own, or the shared one. The caller maintains n_sessions. */
struct account *accounts_find(struct accounts *accounts, const struct peer *peer);

/* The account with the most sessions. Never the account of root of this host. */
const struct account *accounts_greediest(const struct accounts *accounts);
