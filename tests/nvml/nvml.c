/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A stand-in for libnvidia-ml.so.1 on the simulated driver: the functions for persistence mode and for the settings of
 * GPUs. Each call asks the simulator's socket (HOLDFAST_SIM_SOCKET), with a JSON object in each line. Like the real
 * library it first asks the persistence daemon (below HOLDFAST_ROOT), and reports the mode as enabled if the daemon or
 * the legacy flag says so.
 *
 * HOLDFAST_NVML_FAULT makes it fail: "mismatch", it belongs to another driver; "unsupported", the GPUs have neither a
 * power limit nor locked clocks; "crash", the process aborts when it sets a power limit; "hang", each initialisation of
 * the library waits.
 */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "gpu/pci.h"
#include "rpc/message.h"
#include "rpc/nvpd.h"
#include "rpc/record.h"

#define EXPORT __attribute__((visibility("default")))

/* nvmlReturn_t */
enum {
        SUCCESS = 0,
        ERROR_UNINITIALIZED = 1,
        ERROR_INVALID_ARGUMENT = 2,
        ERROR_NOT_SUPPORTED = 3,
        ERROR_NO_PERMISSION = 4,
        ERROR_NOT_FOUND = 6,
        ERROR_DRIVER_NOT_LOADED = 9,
        ERROR_LIB_RM_VERSION_MISMATCH = 18,
        ERROR_UNKNOWN = 999,
};

enum { GPUS_MAX = 64 };

struct device {
        char address[PCI_ADDRESS_SIZE]; /* as sysfs and the simulator spell it */
};

static bool initialised;
static struct device devices[GPUS_MAX];
static size_t n_devices;

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlShutdown(void);
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device);
EXPORT int nvmlDeviceGetPersistenceMode(void *device, int *mode);
EXPORT int nvmlDeviceSetPersistenceMode(void *device, int mode);
EXPORT int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts);
EXPORT int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *low, unsigned *high);
EXPORT int nvmlDeviceSetPowerManagementLimit(void *device, unsigned milliwatts);
EXPORT int nvmlDeviceGetSupportedMemoryClocks(void *device, unsigned *count, unsigned *clocks);
EXPORT int nvmlDeviceGetSupportedGraphicsClocks(void *device, unsigned memory_clock, unsigned *count, unsigned *clocks);
EXPORT int nvmlDeviceSetGpuLockedClocks(void *device, unsigned low, unsigned high);
EXPORT int nvmlDeviceSetMemoryLockedClocks(void *device, unsigned low, unsigned high);
EXPORT int nvmlDeviceGetComputeMode(void *device, int *mode);
EXPORT int nvmlDeviceSetComputeMode(void *device, int mode);
EXPORT int nvmlDeviceGetEccMode(void *device, int *current, int *pending);
EXPORT int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending);
EXPORT const char *nvmlErrorString(int result);

/* ---- the sockets --------------------------------------------------------------------------------------------- */

static int connect_to(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        CLEANUP(fd_done) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || !path || !text_copy(address.sun_path, sizeof(address.sun_path), path) ||
            connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return -1;
        return take_fd(&fd);
}

static int connect_daemon(void) {
        const char *root = getenv("HOLDFAST_ROOT");
        char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

        if (!root || text_format(path, sizeof(path), "%s/run/nvidia-persistenced/socket", root) < 0)
                return -1;
        return connect_to(path);
}

/* If the path exists, the real library requires an answer. */
static bool is_dead_socket(void) {
        const char *root = getenv("HOLDFAST_ROOT");
        char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
        CLEANUP(fd_done) int fd = connect_daemon();

        return fd < 0 && root && text_format(path, sizeof(path), "%s/run/nvidia-persistenced/socket", root) >= 0 &&
               access(path, F_OK) == 0;
}

/* Sends a question, whose reference it takes over. Returns the result as a new reference, or NULL. */
static json_t *ask(json_t *question) {
        CLEANUP(json_decrefp) json_t *owned = question, *answer = NULL;
        CLEANUP(fd_done) int fd = connect_to(getenv("HOLDFAST_SIM_SOCKET"));
        CLEANUP(stream_done) FILE *stream = NULL;
        json_t *result;

        if (fd < 0 || !(stream = fdopen(fd, "r+")))
                return NULL;
        (void)take_fd(&fd); /* the stream owns it now */
        if (json_dumpf(owned, stream, JSON_COMPACT) < 0 || fputc('\n', stream) < 0 || fflush(stream) < 0)
                return NULL;
        answer = json_loadf(stream, JSON_DISABLE_EOF_CHECK, NULL);
        if (!json_is_true(json_object_get(answer, "ok")))
                return NULL;
        result = json_object_get(answer, "result");
        return result ? json_incref(result) : json_null();
}

static bool has_fault(const char *name) {
        const char *fault = getenv("HOLDFAST_NVML_FAULT");

        return fault && text_equal(fault, name);
}

/* ---- NVML ---------------------------------------------------------------------------------------------------- */

int nvmlInit_v2(void) {
        CLEANUP(json_decrefp) json_t *status = ask(json_pack("{s:s}", "verb", "status"));
        json_t *gpu;
        size_t i;

        while (has_fault("hang"))
                (void)pause();
        if (has_fault("mismatch"))
                return ERROR_LIB_RM_VERSION_MISMATCH;
        if (!status)
                return ERROR_DRIVER_NOT_LOADED;
        n_devices = 0;
        json_array_foreach(json_object_get(status, "gpus"), i, gpu) {
                const char *address = json_string_value(json_object_get(gpu, "address"));

                if (address && n_devices < GPUS_MAX)
                        (void)text_copy(devices[n_devices++].address, PCI_ADDRESS_SIZE, address);
        }
        initialised = true;
        return SUCCESS;
}

int nvmlShutdown(void) {
        if (!initialised)
                return ERROR_UNINITIALIZED;
        initialised = false;
        return SUCCESS;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device) {
        struct pci_address wanted;
        char address[PCI_ADDRESS_SIZE];

        if (!initialised)
                return ERROR_UNINITIALIZED;
        if (pci_address_parse(bus_id, &wanted) < 0)
                return ERROR_INVALID_ARGUMENT;
        (void)pci_address_format(&wanted, address);
        for (size_t i = 0; i < n_devices; i++)
                if (text_equal(devices[i].address, address)) {
                        *device = &devices[i];
                        return SUCCESS;
                }
        return ERROR_NOT_FOUND;
}

/* Makes a connection for each question, as NVML does. Returns false also without an answer. */
static bool is_held(const struct pci_address *address) {
        const struct rpc_call call = {1, NVPD_PROGRAM, NVPD_VERSION_1, NVPD_GET_PERSISTENCE_MODE};
        const struct nvpd_device device = {(int32_t)address->domain, address->bus, address->slot, 0};
        CLEANUP(fd_done) int fd = connect_daemon();
        struct nvpd_get_result result = {0};
        struct rpc_reply reply;
        struct xdr_writer writer;
        struct xdr_reader reader;
        uint8_t bytes[128];
        ssize_t n;

        xdr_writer_init(&writer, bytes + RECORD_HEADER_SIZE, sizeof(bytes) - RECORD_HEADER_SIZE);
        rpc_call_encode(&writer, &call);
        nvpd_device_encode(&writer, &device);
        record_header_encode(bytes, (uint32_t)xdr_writer_size(&writer));
        if (fd < 0 || send(fd, bytes, RECORD_HEADER_SIZE + xdr_writer_size(&writer), MSG_NOSIGNAL) < 0)
                return false;
        n = recv(fd, bytes, sizeof(bytes), 0);
        if (n < RECORD_HEADER_SIZE)
                return false;
        xdr_reader_init(&reader, bytes + RECORD_HEADER_SIZE, (size_t)n - RECORD_HEADER_SIZE);
        if (rpc_reply_decode(&reader, &reply) < 0)
                return false;
        nvpd_get_result_decode(&reader, &result);
        return xdr_reader_ok(&reader) && result.status == NVPD_SUCCESS && result.mode == NVPD_MODE_ENABLED;
}

/* Returns the value of a key in the simulator's status of the GPU, as a new reference, or NULL. */
static json_t *status_of(const char *address, const char *key) {
        CLEANUP(json_decrefp) json_t *status = ask(json_pack("{s:s}", "verb", "status"));
        json_t *gpu;
        size_t i;

        json_array_foreach(json_object_get(status, "gpus"), i, gpu) {
                const char *known = json_string_value(json_object_get(gpu, "address"));

                if (known && text_equal(known, address))
                        return json_incref(json_object_get(gpu, key));
        }
        return NULL;
}

static bool has_flag(const char *address) {
        CLEANUP(json_decrefp) json_t *legacy = status_of(address, "legacy");

        return json_is_true(legacy);
}

int nvmlDeviceGetPersistenceMode(void *device, int *mode) {
        const char *text = ((struct device *)device)->address;
        struct pci_address address;

        if (!initialised)
                return ERROR_UNINITIALIZED;
        if (pci_address_parse(text, &address) < 0)
                return ERROR_UNKNOWN;
        *mode = is_held(&address) || has_flag(text);
        return SUCCESS;
}

int nvmlDeviceSetPersistenceMode(void *device, int mode) {
        CLEANUP(json_decrefp) json_t *result = NULL;

        if (!initialised)
                return ERROR_UNINITIALIZED;
        if (mode != 0 && mode != 1)
                return ERROR_INVALID_ARGUMENT;
        if (geteuid() != 0)
                return ERROR_NO_PERMISSION;
        if (is_dead_socket())
                return ERROR_UNKNOWN;
        result = ask(
                json_pack("{s:s, s:s, s:b}", "verb", "legacy", "gpu", ((struct device *)device)->address, "on", mode));
        return result ? SUCCESS : ERROR_UNKNOWN;
}

/* ---- settings ------------------------------------------------------------------------------------------------- */

enum { MILLIWATTS = 1000 };

static const char *const compute_modes[] = {"Default", NULL, "Prohibited", "Exclusive_Process"};

static int get_setting(void *device, const char *key, json_t **ret_value) {
        CLEANUP(json_decrefp) json_t *settings = NULL;

        if (!initialised)
                return ERROR_UNINITIALIZED;
        settings = status_of(((struct device *)device)->address, "settings");
        *ret_value = json_incref(json_object_get(settings, key));
        return *ret_value ? SUCCESS : ERROR_UNKNOWN;
}

/* Takes over the value's reference. If the simulator refuses the value, it is out of range. */
static int set_setting(void *device, const char *key, json_t *value) {
        CLEANUP(json_decrefp) json_t *owned = value, *result = NULL;

        if (!initialised)
                return ERROR_UNINITIALIZED;
        if (geteuid() != 0)
                return ERROR_NO_PERMISSION;
        result =
                ask(json_pack("{s:s, s:s, s:O}", "verb", "set", "gpu", ((struct device *)device)->address, key, owned));
        return result ? SUCCESS : ERROR_INVALID_ARGUMENT;
}

int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts) {
        CLEANUP(json_decrefp) json_t *watts = NULL;
        int result = has_fault("unsupported") ? ERROR_NOT_SUPPORTED : get_setting(device, "power_limit_w", &watts);

        if (result == SUCCESS)
                *milliwatts = (unsigned)json_integer_value(watts) * MILLIWATTS;
        return result;
}

int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *low, unsigned *high) {
        *low = 200 * MILLIWATTS;
        *high = 700 * MILLIWATTS;
        return SUCCESS;
}

int nvmlDeviceSetPowerManagementLimit(void *device, unsigned milliwatts) {
        if (has_fault("crash"))
                abort();
        return set_setting(device, "power_limit_w", json_integer(milliwatts / MILLIWATTS));
}

int nvmlDeviceGetSupportedMemoryClocks(void *device, unsigned *count, unsigned *clocks) {
        *count = 2;
        clocks[0] = 2619;
        clocks[1] = 1593;
        return SUCCESS;
}

int nvmlDeviceGetSupportedGraphicsClocks(void *device, unsigned memory_clock, unsigned *count, unsigned *clocks) {
        *count = 0;
        for (unsigned clock = 1980; clock >= 345; clock -= 15)
                clocks[(*count)++] = clock;
        return SUCCESS;
}

/* The simulator stores only the upper end of the range. */
int nvmlDeviceSetGpuLockedClocks(void *device, unsigned low, unsigned high) {
        if (has_fault("unsupported"))
                return ERROR_NOT_SUPPORTED;
        return set_setting(device, "graphics_clock_mhz", json_integer(high));
}

int nvmlDeviceSetMemoryLockedClocks(void *device, unsigned low, unsigned high) {
        return set_setting(device, "memory_clock_mhz", json_integer(high));
}

int nvmlDeviceGetComputeMode(void *device, int *mode) {
        CLEANUP(json_decrefp) json_t *name = NULL;
        int result = get_setting(device, "compute_mode", &name);

        for (size_t i = 0; i < ARRAY_SIZE(compute_modes) && result == SUCCESS; i++)
                if (compute_modes[i] && text_equal(compute_modes[i], json_string_value(name)))
                        *mode = (int)i;
        return result;
}

int nvmlDeviceSetComputeMode(void *device, int mode) {
        if (mode < 0 || (size_t)mode >= ARRAY_SIZE(compute_modes) || !compute_modes[mode])
                return ERROR_INVALID_ARGUMENT;
        return set_setting(device, "compute_mode", json_string(compute_modes[mode]));
}

int nvmlDeviceGetEccMode(void *device, int *current, int *pending) {
        *current = *pending = 1;
        return SUCCESS;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
        return ERROR_NOT_SUPPORTED;
}

const char *nvmlErrorString(int result) {
        static const struct {
                int result;
                const char *text;
        } texts[] = {
                {SUCCESS, "Success"},
                {ERROR_UNINITIALIZED, "Uninitialized"},
                {ERROR_INVALID_ARGUMENT, "Invalid Argument"},
                {ERROR_NOT_SUPPORTED, "Not Supported"},
                {ERROR_NO_PERMISSION, "Insufficient Permissions"},
                {ERROR_NOT_FOUND, "Not Found"},
                {ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded"},
                {ERROR_LIB_RM_VERSION_MISMATCH, "Driver/library version mismatch"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                if (texts[i].result == result)
                        return texts[i].text;
        return "Unknown Error";
}
