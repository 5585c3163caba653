#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Whose sessions there are, and how many. What one account does costs no other account a session that it uses.
 *
 *      root of this host      no limit of its own, and slots that nobody else gets
 *      a user                 a uid in a PID namespace: a container's uid 1000 is not the host's
 *      shared                 all further users, once there are ACCOUNTS_MAX: an ordinary user can have 65,536 uids
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

/* The account of a peer: its own, or shared. Its owner counts n_sessions. */
struct account *accounts_find(struct accounts *accounts, const struct peer *peer);

/* The one with most sessions, but for root of this host. */
const struct account *accounts_greediest(const struct accounts *accounts);
