/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast-peer: one call of Holdfast's own program by a client made of holdfast.x. Exits 0 when an answer came. */

#include <stdio.h>
#include <string.h>

#include "holdfast.h"
#include "tests/peer/holdfast_print.h"
#include "tests/peer/peer.h"

static enum clnt_stat call_null(CLIENT *client) {
        char nothing = 0;
        enum clnt_stat outcome = hf_null_1(NULL, &nothing, client);

        if (outcome == RPC_SUCCESS)
                printf("answered\n");
        return outcome;
}

static enum clnt_stat call_list(CLIENT *client) {
        hf_list list = {0};
        enum clnt_stat outcome = hf_list_1(NULL, &list, client);

        if (outcome == RPC_SUCCESS)
                holdfast_print(stdout, &list);
        xdr_free((xdrproc_t)xdr_hf_list, (char *)&list);
        return outcome;
}

int main(int argc, char **argv) {
        enum clnt_stat (*call)(CLIENT * client) = NULL;
        CLIENT *client;

        if (argc == 3 && strcmp(argv[2], "list") == 0)
                call = call_list;
        if (argc == 3 && strcmp(argv[2], "null") == 0)
                call = call_null;
        if (!call) {
                fprintf(stderr, "usage: %s SOCKET null | list\n", argv[0]);
                return PEER_USAGE;
        }
        client = peer_connect(argv[1], HF_PROGRAM, HF_VERSION);
        if (!client)
                return PEER_NO_ANSWER;
        return peer_finish(client, call(client));
}
