/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "client/client.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/leftover.h"
#include "base/locations.h"
#include "base/text.h"
#include "client/connection.h"

_Static_assert(CONNECTION_REPLY_MAX >= 24 + HF_LIST_HEAD_ENCODED_MAX + HF_GPUS_MAX * HF_GPU_ENCODED_MAX,
               "the longest List fits");
_Static_assert(CONNECTION_CALL_MAX >= 40 + 8 + HF_GPUS_MAX * sizeof(struct hf_address), "the longest Release fits");

struct client {
        struct connection connection;
};

int client_connect(struct client **ret_client, const char *path, uint64_t timeout_usec) {
        CLEANUP(free_ptr) struct client *client = calloc(1, sizeof(*client));
        int r;

        if (!client)
                return -ENOMEM;
        r = connection_init(&client->connection, path, timeout_usec);
        if (r < 0)
                return r;
        *ret_client = take_ptr(client);
        return 0;
}

static const struct {
        int error;
        const char *reason;
} connect_reasons[] = {
        {-EACCES,
         "this user has no permission to reach the socket: check the permissions of its folder, or run as root"},
        {-ECONNREFUSED, "it is not running and left its socket behind: start it (systemctl start nvidia-persistenced)"},
        {-EMFILE, "this process has too many files open"},
        {-ENAMETOOLONG, "a socket's path has at most 107 characters: choose a shorter root"},
        {-ENOENT, "there is no socket, so it is not running: start it (systemctl start nvidia-persistenced)"},
        {-ENOTDIR, "part of the path is not a folder: check the root"},
        {-EPROTOTYPE, "the socket has another type: it does not belong to a persistence daemon"},
        {-ETIMEDOUT, "it did not accept the connection in time: it is busy or stuck; see its log"},
};

void client_connect_error(char *buffer, size_t size, const char *path, int error) {
        char number[64];
        const char *reason = strerror_r(-error, number, sizeof(number));

        for (size_t i = 0; i < ARRAY_SIZE(connect_reasons); i++)
                if (connect_reasons[i].error == error)
                        reason = connect_reasons[i].reason;
        (void)text_format(buffer, size, "cannot reach a persistence daemon at %s: %s", path, reason);
}

struct client *client_free(struct client *client) {
        if (client)
                connection_done(&client->connection);
        free(client);
        return NULL;
}

void client_done(struct client **client) {
        *client = client_free(*client);
}

int32_t client_peer_pid(const struct client *client) {
        return client->connection.peer_pid;
}

const char *client_error(const struct client *client) {
        return client->connection.error;
}

int client_socket_path(char *buffer, size_t size, const struct locations *locations) {
        return text_format(buffer, size, "%s/run/nvidia-persistenced/" SOCKET_NAME, locations->above_run);
}

int client_remove_dead_socket(const char *path) {
        CLEANUP(fd_done) int fd = -1;
        char pid_file[256];
        const char *name = strrchr(path, '/');

        if (!name || text_format(pid_file, sizeof(pid_file), "%.*s/" PID_FILE_NAME, (int)(name - path), path) < 0)
                return -EINVAL;
        fd = leftover_lock(pid_file);
        if (fd < 0 && fd != -ENOENT)
                return fd;
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int check_results(struct client *client, const struct xdr_reader *results) {
        if (!xdr_reader_ok(results))
                return connection_fail(&client->connection, -EPROTO,
                                       "sent an answer that cannot be read: is it a persistence daemon?");
        return 0;
}

/* Finishes a call whose result is a status. */
static int finish_for_status(struct client *client, struct connection_call *call, uint32_t *ret_status) {
        struct xdr_reader results;
        uint32_t status;
        int r;

        r = connection_finish_call(&client->connection, call, &results);
        if (r < 0)
                return r;
        status = xdr_read_u32(&results);
        r = check_results(client, &results);
        if (r < 0)
                return r;
        *ret_status = status;
        return 0;
}

static struct nvpd_device device_of(const struct pci_address *address) {
        return (struct nvpd_device){
                .domain = (int32_t)address->domain,
                .bus = address->bus,
                .slot = address->slot,
                .function = 0, /* all functions of the device, as for every client */
        };
}

int client_get_mode(struct client *client, const struct pci_address *address, uint32_t *ret_status, bool *ret_enabled) {
        struct nvpd_device device = device_of(address);
        struct nvpd_get_result result;
        struct xdr_reader results;
        struct connection_call call;
        int r;

        connection_begin_call(&client->connection, &call, NVPD_PROGRAM, NVPD_VERSION_1, NVPD_GET_PERSISTENCE_MODE);
        nvpd_device_encode(&call.writer, &device);
        r = connection_finish_call(&client->connection, &call, &results);
        if (r < 0)
                return r;
        nvpd_get_result_decode(&results, &result);
        r = check_results(client, &results);
        if (r < 0)
                return r;
        if (result.mode > NVPD_MODE_ENABLED)
                return connection_fail(&client->connection, -EPROTO, "answered with the unknown persistence mode %u",
                                       result.mode);
        *ret_status = result.status;
        *ret_enabled = result.mode == NVPD_MODE_ENABLED;
        return 0;
}

int client_set_mode(struct client *client, const struct pci_address *address, bool enabled, uint32_t *ret_status) {
        struct nvpd_set_args args = {
                .device = device_of(address),
                .value = enabled ? NVPD_MODE_ENABLED : NVPD_MODE_DISABLED,
        };
        struct connection_call call;

        connection_begin_call(&client->connection, &call, NVPD_PROGRAM, NVPD_VERSION_1, NVPD_SET_PERSISTENCE_MODE);
        nvpd_set_args_encode(&call.writer, &args);
        return finish_for_status(client, &call, ret_status);
}

static int out_of_memory(struct client *client) {
        return connection_fail(&client->connection, -ENOMEM, "answered, but there is no memory to hold the answer");
}

static int decode_list(struct client *client, struct xdr_reader *results, struct hf_list_head *ret_head,
                       struct hf_gpu **ret_gpus) {
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;
        int r;

        hf_list_head_decode(results, &head);
        /* One more, so that the array exists even without GPUs. The decoder limits n_gpus. */
        gpus = calloc((size_t)head.n_gpus + 1, sizeof(*gpus));
        if (!gpus)
                return out_of_memory(client);
        for (uint32_t i = 0; i < head.n_gpus; i++)
                hf_gpu_decode(results, &gpus[i]);
        r = check_results(client, results);
        if (r < 0)
                return r;
        *ret_head = head;
        *ret_gpus = take_ptr(gpus);
        return 0;
}

int client_list(struct client *client, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus) {
        struct xdr_reader results;
        struct connection_call call;
        int r;

        connection_begin_call(&client->connection, &call, HF_PROGRAM, HF_VERSION, HF_LIST);
        r = connection_finish_call(&client->connection, &call, &results);
        if (r < 0)
                return r;
        return decode_list(client, &results, ret_head, ret_gpus);
}

struct pci_address client_address(const struct hf_address *address) {
        return (struct pci_address){
                .domain = address->domain,
                .bus = (uint8_t)address->bus,
                .slot = (uint8_t)address->slot,
                .function = (uint8_t)address->function,
        };
}

static void begin_watch(struct client *client, struct connection_call *call, uint64_t serial) {
        connection_begin_call(&client->connection, call, HF_PROGRAM, HF_VERSION, HF_WATCH);
        xdr_write_u64(&call->writer, serial);
}

int client_watch(struct client *client, uint64_t serial, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus) {
        struct xdr_reader results;
        struct connection_call call;
        int r;

        begin_watch(client, &call, serial);
        r = connection_finish_call(&client->connection, &call, &results);
        return r < 0 ? r : decode_list(client, &results, ret_head, ret_gpus);
}

int client_watch_begin(struct client *client, uint64_t serial) {
        struct connection_call call;

        begin_watch(client, &call, serial);
        return connection_send_call(&client->connection, &call);
}

int client_watch_end(struct client *client, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus) {
        struct xdr_reader results;
        int r = connection_take_answer(&client->connection, &results);

        return r < 0 ? r : decode_list(client, &results, ret_head, ret_gpus);
}

int client_fd(const struct client *client) {
        return client->connection.fd;
}

int client_configured(struct client *client, struct hf_gpu_configured **ret_gpus, size_t *ret_n) {
        CLEANUP(free_ptr) struct hf_gpu_configured *gpus = NULL;
        struct xdr_reader results;
        struct connection_call call;
        uint32_t n;
        int r;

        connection_begin_call(&client->connection, &call, HF_PROGRAM, HF_VERSION, HF_CONFIGURED);
        r = connection_finish_call(&client->connection, &call, &results);
        if (r < 0)
                return r;
        n = hf_configured_decode_count(&results);
        gpus = calloc((size_t)n + 1, sizeof(*gpus));
        if (!gpus)
                return out_of_memory(client);
        for (uint32_t i = 0; i < n; i++)
                hf_gpu_configured_decode(&results, &gpus[i]);
        r = check_results(client, &results);
        if (r < 0)
                return r;
        *ret_gpus = take_ptr(gpus);
        *ret_n = n;
        return 0;
}

int client_stats(struct client *client, struct hf_stats *ret_stats) {
        struct hf_stats stats;
        struct xdr_reader results;
        struct connection_call call;
        int r;

        connection_begin_call(&client->connection, &call, HF_PROGRAM, HF_VERSION, HF_STATS);
        r = connection_finish_call(&client->connection, &call, &results);
        if (r < 0)
                return r;
        hf_stats_decode(&results, &stats);
        r = check_results(client, &results);
        if (r < 0)
                return r;
        *ret_stats = stats;
        return 0;
}

static void encode_lease(struct xdr_writer *writer, const struct pci_address *addresses, size_t n) {
        const struct hf_release_head head = {.all = n == 0, .n_gpus = (uint32_t)n};

        hf_release_head_encode(writer, &head);
        for (size_t i = 0; i < n; i++) {
                const struct hf_address address = {
                        .domain = addresses[i].domain,
                        .bus = addresses[i].bus,
                        .slot = addresses[i].slot,
                        .function = addresses[i].function,
                };

                hf_address_encode(writer, &address);
        }
}

int client_lease(struct client *client, const struct pci_address *addresses, size_t n, uint32_t *ret_status) {
        struct connection_call call;

        assert(n <= HF_GPUS_MAX);
        connection_begin_call(&client->connection, &call, HF_PROGRAM, HF_VERSION, HF_RELEASE);
        encode_lease(&call.writer, addresses, n);
        return finish_for_status(client, &call, ret_status);
}
