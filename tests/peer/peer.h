#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the independent clients share: a libtirpc client over an AF_UNIX stream, and how they end. */

#include <rpc/rpc.h>

enum {
        PEER_ANSWERED = 0,
        PEER_NO_ANSWER = 1, /* and a line on standard error says why */
        PEER_USAGE = 2,
};

/* Returns NULL after saying why. The client owns its socket. */
CLIENT *peer_connect(const char *path, rpcprog_t program, rpcvers_t version);

/* Destroys the client and returns PEER_ANSWERED, or PEER_NO_ANSWER after saying what the call came to. */
int peer_finish(CLIENT *client, enum clnt_stat outcome);
