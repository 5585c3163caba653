/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * nvpd-peer: makes one call of program 35006, as an independent client. Prints "status=N", and " mode=N" if the answer
 * has one. Exits with 0 if it received an answer, whatever its status.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nvpd.h"
#include "tests/peer/peer.h"

struct arguments {
        nvpd_device device;
        nvpd_value value;
};

typedef enum clnt_stat call_function(CLIENT *client, const struct arguments *arguments);

static void print_status(enum clnt_stat outcome, nvpd_status status) {
        if (outcome == RPC_SUCCESS)
                printf("status=%d\n", (int)status);
}

static enum clnt_stat call_null_one(CLIENT *client, const struct arguments *arguments) {
        char nothing = 0;
        enum clnt_stat outcome = nvpd_null_one_1(NULL, &nothing, client);

        print_status(outcome, NVPD_SUCCESS);
        return outcome;
}

static enum clnt_stat call_null_two(CLIENT *client, const struct arguments *arguments) {
        char nothing = 0;
        enum clnt_stat outcome = nvpd_null_two_2(NULL, &nothing, client);

        print_status(outcome, NVPD_SUCCESS);
        return outcome;
}

static enum clnt_stat call_get(CLIENT *client, const struct arguments *arguments) {
        nvpd_device device = arguments->device;
        nvpd_mode mode = {0};
        enum clnt_stat outcome = nvpd_get_mode_1(&device, &mode, client);

        if (outcome == RPC_SUCCESS && mode.status == NVPD_SUCCESS)
                printf("status=%d mode=%d\n", (int)mode.status, mode.nvpd_mode_u.mode);
        else
                print_status(outcome, mode.status);
        return outcome;
}

static enum clnt_stat call_setting(CLIENT *client, const struct arguments *arguments,
                                   enum clnt_stat (*procedure)(nvpd_setting *, nvpd_status *, CLIENT *)) {
        nvpd_setting setting = {.device = arguments->device, .value = arguments->value};
        nvpd_status status = NVPD_SUCCESS;
        enum clnt_stat outcome = procedure(&setting, &status, client);

        print_status(outcome, status);
        return outcome;
}

static enum clnt_stat call_set(CLIENT *client, const struct arguments *arguments) {
        return call_setting(client, arguments, nvpd_set_mode_1);
}

static enum clnt_stat call_set_only(CLIENT *client, const struct arguments *arguments) {
        return call_setting(client, arguments, nvpd_set_mode_only_2);
}

static enum clnt_stat call_set_numa(CLIENT *client, const struct arguments *arguments) {
        return call_setting(client, arguments, nvpd_set_numa_2);
}

static const struct call {
        const char *name;
        int n_arguments; /* the device, then the value */
        rpcvers_t version;
        call_function *function;
} calls[] = {
        {"get", 1, NVPD_ONE, call_get},           {"null1", 0, NVPD_ONE, call_null_one},
        {"null2", 0, NVPD_TWO, call_null_two},    {"set", 2, NVPD_ONE, call_set},
        {"set-numa", 2, NVPD_TWO, call_set_numa}, {"set-only", 2, NVPD_TWO, call_set_only},
};

static const struct call *find_call(const char *name) {
        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
                if (strcmp(calls[i].name, name) == 0)
                        return &calls[i];
        return NULL;
}

/* DOMAIN:BUS:SLOT.FUNCTION, in hexadecimal digits */
static int parse_device(const char *text, nvpd_device *ret_device) {
        unsigned domain, bus, slot, function;
        char rest;

        if (sscanf(text, "%x:%x:%x.%x%c", &domain, &bus, &slot, &function, &rest) != 4)
                return -1;
        *ret_device = (nvpd_device){(int)domain, (int)bus, (int)slot, (int)function};
        return 0;
}

static int parse_value(const char *text, nvpd_value *ret_value) {
        char *rest;
        long value = strtol(text, &rest, 10);

        if (rest == text || *rest != '\0')
                return -1;
        *ret_value = (nvpd_value)value;
        return 0;
}

static int usage(const char *program) {
        fprintf(stderr,
                "usage: %s SOCKET null1 | null2 | get DDDD:BB:SS.F | (set | set-only | set-numa) DDDD:BB:SS.F VALUE\n",
                program);
        return PEER_USAGE;
}

int main(int argc, char **argv) {
        const struct call *call = argc >= 3 ? find_call(argv[2]) : NULL;
        struct arguments arguments = {0};
        CLIENT *client;

        if (!call || argc != 3 + call->n_arguments)
                return usage(argv[0]);
        if (call->n_arguments >= 1 && parse_device(argv[3], &arguments.device) < 0)
                return usage(argv[0]);
        if (call->n_arguments >= 2 && parse_value(argv[4], &arguments.value) < 0)
                return usage(argv[0]);
        client = peer_connect(argv[1], NVPD, call->version);
        if (!client)
                return PEER_NO_ANSWER;
        return peer_finish(client, call->function(client, &arguments));
}
