/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/accounts.h"

#include <stddef.h>

#include "base/cleanup.h"

static bool is_of(const struct account *account, const struct peer *peer) {
        return account->n_sessions > 0 && account->uid == peer->uid &&
               account->pid_namespace == peer->facts.pid_namespace;
}

struct account *accounts_find(struct accounts *accounts, const struct peer *peer) {
        struct account *unused = NULL;

        if (peer_is_host_root(peer))
                return &accounts->root;
        for (size_t i = 0; i < ARRAY_SIZE(accounts->users); i++) {
                struct account *account = &accounts->users[i];

                if (is_of(account, peer))
                        return account;
                if (account->n_sessions == 0 && !unused)
                        unused = account;
        }
        if (!unused)
                return &accounts->shared;
        *unused = (struct account){.uid = peer->uid, .pid_namespace = peer->facts.pid_namespace};
        return unused;
}

const struct account *accounts_greediest(const struct accounts *accounts) {
        const struct account *greediest = &accounts->shared;

        for (size_t i = 0; i < ARRAY_SIZE(accounts->users); i++)
                if (accounts->users[i].n_sessions > greediest->n_sessions)
                        greediest = &accounts->users[i];
        return greediest;
}
