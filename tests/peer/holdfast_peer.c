/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast-peer: makes one call of Holdfast's program, as a client generated from holdfast.x. Exits with 0 if it
 * received an answer. After a release it keeps the connection, and so the lease, until its standard input ends.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "holdfast.h"
#include "tests/peer/holdfast_print.h"
#include "tests/peer/peer.h"

enum { ANSWER_SEC = 90 }; /* the daemon answers a Watch within 60 s */

/* The arguments after the name of the call on the command line. */
struct arguments {
        u_quad_t serial;
        hf_release_args release;
};

static enum clnt_stat call_null(CLIENT *client, struct arguments *arguments) {
        char nothing = 0;
        enum clnt_stat outcome = hf_null_1(NULL, &nothing, client);

        if (outcome == RPC_SUCCESS)
                printf("answered\n");
        return outcome;
}

static enum clnt_stat print_list(enum clnt_stat outcome, hf_list *list) {
        if (outcome == RPC_SUCCESS)
                holdfast_print(stdout, list);
        xdr_free((xdrproc_t)xdr_hf_list, (char *)list);
        return outcome;
}

static enum clnt_stat call_list(CLIENT *client, struct arguments *arguments) {
        hf_list list = {0};

        return print_list(hf_list_1(NULL, &list, client), &list);
}

static enum clnt_stat call_watch(CLIENT *client, struct arguments *arguments) {
        hf_watch_args args = {.serial = arguments->serial};
        hf_list list = {0};

        return print_list(hf_watch_1(&args, &list, client), &list);
}

static enum clnt_stat call_stats(CLIENT *client, struct arguments *arguments) {
        hf_stats stats = {0};
        enum clnt_stat outcome = hf_stats_1(NULL, &stats, client);

        if (outcome == RPC_SUCCESS)
                holdfast_print_stats(stdout, &stats);
        return outcome;
}

static enum clnt_stat call_configured(CLIENT *client, struct arguments *arguments) {
        hf_configured configured = {0};
        enum clnt_stat outcome = hf_configured_1(NULL, &configured, client);

        if (outcome == RPC_SUCCESS)
                holdfast_print_configured(stdout, &configured);
        xdr_free((xdrproc_t)xdr_hf_configured, (char *)&configured);
        return outcome;
}

static void wait_for_end_of_input(void) {
        char byte;

        while (read(STDIN_FILENO, &byte, sizeof(byte)) > 0)
                ;
}

static enum clnt_stat call_release(CLIENT *client, struct arguments *arguments) {
        hf_release_result result = {0};
        enum clnt_stat outcome = hf_release_1(&arguments->release, &result, client);

        if (outcome != RPC_SUCCESS)
                return outcome;
        printf("status=%u\n", result.status);
        fflush(stdout);
        wait_for_end_of_input();
        return outcome;
}

/* ---- the command line ---- */

static int take_none(int n_words, char **words, struct arguments *arguments) {
        return n_words == 0 ? 0 : -1;
}

static int take_serial(int n_words, char **words, struct arguments *arguments) {
        char *rest = NULL;

        if (n_words != 1)
                return -1;
        arguments->serial = strtoull(words[0], &rest, 10);
        return rest != words[0] && *rest == '\0' ? 0 : -1;
}

/* "all", or DOMAIN:BUS:SLOT.FUNCTION in hexadecimal digits, once or more */
static int take_gpus(int n_words, char **words, struct arguments *arguments) {
        hf_release_args *release = &arguments->release;

        if (n_words == 0)
                return -1;
        release->all = n_words == 1 && strcmp(words[0], "all") == 0;
        if (release->all)
                return 0;
        release->gpus.gpus_val = calloc((size_t)n_words, sizeof(hf_address));
        if (!release->gpus.gpus_val)
                return -1;
        for (int i = 0; i < n_words; i++) {
                hf_address *address = &release->gpus.gpus_val[i];
                char rest;

                if (sscanf(words[i], "%x:%x:%x.%x%c", &address->domain, &address->bus, &address->slot,
                           &address->function, &rest) != 4)
                        return -1;
        }
        release->gpus.gpus_len = (u_int)n_words;
        return 0;
}

static const struct call {
        const char *name;
        int (*take)(int n_words, char **words, struct arguments *arguments);
        enum clnt_stat (*function)(CLIENT *client, struct arguments *arguments);
} calls[] = {
        {"configured", take_none, call_configured},
        {"list", take_none, call_list},
        {"null", take_none, call_null},
        {"release", take_gpus, call_release},
        {"stats", take_none, call_stats},
        {"watch", take_serial, call_watch},
};

static const struct call *find_call(const char *name) {
        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
                if (strcmp(calls[i].name, name) == 0)
                        return &calls[i];
        return NULL;
}

static int run(const char *path, const struct call *call, struct arguments *arguments) {
        struct timeval limit = {.tv_sec = ANSWER_SEC};
        CLIENT *client = peer_connect(path, HF_PROGRAM, HF_VERSION);

        if (!client)
                return PEER_NO_ANSWER;
        clnt_control(client, CLSET_TIMEOUT, (char *)&limit);
        return peer_finish(client, call->function(client, arguments));
}

int main(int argc, char **argv) {
        const struct call *call = argc >= 3 ? find_call(argv[2]) : NULL;
        struct arguments arguments = {0};
        int status = PEER_USAGE;

        if (call && call->take(argc - 3, argv + 3, &arguments) == 0)
                status = run(argv[1], call, &arguments);
        else
                fprintf(stderr,
                        "usage: %s SOCKET null | list | watch SERIAL | stats | configured | release (all | "
                        "DDDD:BB:SS.F...)\n",
                        argv[0]);
        free(arguments.release.gpus.gpus_val);
        return status;
}
