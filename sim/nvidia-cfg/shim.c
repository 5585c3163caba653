/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The simulator's libnvidia-cfg.so.1: the functions that a persistence daemon loads from NVIDIA's closed library, with
 * the names and signatures that nvidia-persistenced expects. They pass calls to holdfast-sim through its socket
 * (sim/control/server.h), which is HOLDFAST_SIM_SOCKET or /run/holdfast-sim/socket.
 *
 * Each opened GPU has its own connection, which is the hold. So the GPUs of a killed process are released here, too.
 */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "gpu/abi.h"
#include "sim/control/endpoint.h"

#define PUBLIC __attribute__((visibility("default")))
#define DEFAULT_SOCKET "/run/holdfast-sim/socket"

enum { ANSWER_MAX_BYTES = 64 * 1024 };

struct cfg_device { /* NvCfgPciDevice */
        int domain;
        int bus;
        int slot;
        int function;
};

struct cfg_handle {
        pthread_mutex_t mutex; /* one exchange at a time */
        int fd;
};

PUBLIC int nvCfgGetPciDevices(int *ret_n, struct cfg_device **ret_devices);
PUBLIC int nvCfgOpenPciDevice(int domain, int bus, int slot, int function, void **ret_handle);
PUBLIC int nvCfgCloseDevice(void *handle);
PUBLIC unsigned nvCfgEnableUVMPersistence(void *handle);
PUBLIC unsigned nvCfgDisableUVMPersistence(void *handle);

/* Prints messages only on request, to debug the simulator: a library has no log of its own. */
static void complain(const char *what, const char *why) {
        if (getenv("HOLDFAST_SIM_DEBUG"))
                fprintf(stderr, "libnvidia-cfg (simulated): %s: %s\n", what, why);
}

/* ---- one request, one answer ---- */

static int connect_simulator(void) {
        const char *path = getenv("HOLDFAST_SIM_SOCKET");
        int fd;

        if (!path || !*path)
                path = DEFAULT_SOCKET;
        fd = endpoint_connect(path);
        if (fd < 0)
                complain(path, strerror(-fd));
        return fd;
}

/* Reads one line; the simulator sends nothing after it. */
static json_t *receive(int fd) {
        CLEANUP(free_ptr) char *line = malloc(ANSWER_MAX_BYTES);
        size_t length = 0;

        while (line && length < ANSWER_MAX_BYTES) {
                ssize_t count = recv(fd, line + length, ANSWER_MAX_BYTES - length, 0);

                if (count < 0 && errno == EINTR)
                        continue;
                if (count <= 0)
                        return NULL;
                length += (size_t)count;
                if (line[length - 1] == '\n')
                        return json_loadb(line, length, 0, NULL);
        }
        return NULL;
}

/* Sends the request (taking over the reference) and returns the result, a new reference, or NULL. */
static json_t *ask(int fd, json_t *request, const char *what) {
        CLEANUP(json_decrefp) json_t *owned = request;
        CLEANUP(json_decrefp) json_t *answer = NULL;
        CLEANUP(free_ptr) char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;
        const char *error;

        if (text && endpoint_send(fd, text) == 0)
                answer = receive(fd);
        if (json_is_true(json_object_get(answer, "ok")))
                return json_incref(json_object_get(answer, "result"));
        error = json_string_value(json_object_get(answer, "error"));
        complain(what, error ? error : "the simulator went away");
        return NULL;
}

/* ---- the library's functions: 1 is success, 0 failure ---- */

static struct cfg_device *parse_devices(json_t *list, int *ret_n) {
        size_t n = json_array_size(list), i;
        CLEANUP(free_ptr) struct cfg_device *devices = calloc(n > 0 ? n : 1, sizeof(*devices));
        json_t *item;

        if (!devices)
                return NULL;
        json_array_foreach(list, i, item) {
                struct cfg_device *device = &devices[i];

                if (json_unpack(item, "{s:i,s:i,s:i,s:i}", "domain", &device->domain, "bus", &device->bus, "slot",
                                &device->slot, "function", &device->function) < 0)
                        return NULL;
        }
        *ret_n = (int)n;
        return take_ptr(devices);
}

int nvCfgGetPciDevices(int *ret_n, struct cfg_device **ret_devices) {
        CLEANUP(fd_done) int fd = connect_simulator();
        CLEANUP(json_decrefp) json_t *list = NULL;
        struct cfg_device *devices;

        if (fd < 0)
                return 0;
        list = ask(fd, json_pack("{s:s}", "verb", "list"), "list");
        if (!list)
                return 0;
        devices = parse_devices(list, ret_n);
        if (!devices)
                return 0;
        *ret_devices = devices;
        return 1;
}

int nvCfgOpenPciDevice(int domain, int bus, int slot, int function, void **ret_handle) {
        CLEANUP(free_ptr) struct cfg_handle *handle = calloc(1, sizeof(*handle));
        CLEANUP(fd_done) int fd = connect_simulator();
        CLEANUP(json_decrefp) json_t *result = NULL;

        if (!handle || fd < 0)
                return 0;
        result = ask(fd,
                     json_pack("{s:s,s:i,s:i,s:i,s:i}", "verb", "open", "domain", domain, "bus", bus, "slot", slot,
                               "function", function),
                     "open");
        if (!result)
                return 0;
        (void)pthread_mutex_init(&handle->mutex, NULL);
        handle->fd = take_fd(&fd);
        *ret_handle = take_ptr(handle);
        return 1;
}

int nvCfgCloseDevice(void *handle_pointer) {
        struct cfg_handle *handle = handle_pointer;
        CLEANUP(json_decrefp) json_t *result = NULL;

        if (!handle)
                return 0;
        /* A request, not just the end of the connection: the answer comes after the teardown, as close(2) returns then.
         */
        result = ask(handle->fd, json_pack("{s:s}", "verb", "close"), "close");
        (void)fd_close(handle->fd);
        (void)pthread_mutex_destroy(&handle->mutex);
        free(handle);
        return result ? 1 : 0;
}

static unsigned set_uvm(struct cfg_handle *handle, int enable) {
        CLEANUP(json_decrefp) json_t *result = NULL;

        if (!handle)
                return NV_ERR_INVALID_ARGUMENT;
        (void)pthread_mutex_lock(&handle->mutex);
        result = ask(handle->fd, json_pack("{s:s,s:b}", "verb", "uvm", "enable", enable), "uvm");
        (void)pthread_mutex_unlock(&handle->mutex);
        return result ? (unsigned)json_integer_value(result) : NV_ERR_OPERATING_SYSTEM;
}

unsigned nvCfgEnableUVMPersistence(void *handle) {
        return set_uvm(handle, 1);
}

unsigned nvCfgDisableUVMPersistence(void *handle) {
        return set_uvm(handle, 0);
}
