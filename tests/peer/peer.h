#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Shared by the independent clients: a libtirpc client over an AF_UNIX stream, and their exit statuses. */

#include <rpc/rpc.h>

enum {
        PEER_ANSWERED = 0,
        PEER_NO_ANSWER = 1, /* with the reason on standard error */
        PEER_USAGE = 2,
};

/* Returns NULL after it printed the reason. The client owns its socket. */
CLIENT *peer_connect(const char *path, rpcprog_t program, rpcvers_t version);

/* Destroys the client. Returns PEER_ANSWERED, or PEER_NO_ANSWER after it printed the reason. */
int peer_finish(CLIENT *client, enum clnt_stat outcome);
