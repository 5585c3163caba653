#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * RPC program 35006, which nvidia-smi and NVML use with nvidia-persistenced (docs/protocol.md). Existing clients depend
 * on all values and layouts.
 */

#include "rpc/message.h"

enum {
        NVPD_PROGRAM = 35006,
        NVPD_VERSION_1 = 1,
        NVPD_VERSION_2 = 2,

        /* version 1 */
        NVPD_SET_PERSISTENCE_MODE = 1,
        NVPD_GET_PERSISTENCE_MODE = 2,
        /* version 2 */
        NVPD_SET_PERSISTENCE_MODE_ONLY = 1,
        NVPD_SET_NUMA_STATUS = 2,
};

enum nvpd_status {
        NVPD_SUCCESS = 0,
        NVPD_DAEMON_NOT_PRESENT = 1,
        NVPD_DEVICE_NOT_FOUND = 2,
        NVPD_DRIVER = 3,
        NVPD_INSUFFICIENT_RESOURCES = 4,
        NVPD_INVALID_ARGUMENT = 5,
        NVPD_IO = 6,
        NVPD_PERMISSIONS = 7,
        NVPD_RPC = 8,
        NVPD_USER_NOT_FOUND = 9,
        NVPD_NUMA_FAILURE = 10,
        NVPD_UNKNOWN = 11,
};

enum nvpd_mode {
        NVPD_MODE_DISABLED = 0,
        NVPD_MODE_ENABLED = 1,
};

enum nvpd_numa_status {
        NVPD_NUMA_OFFLINE = 0,
        NVPD_NUMA_ONLINE = 1,
};

/* A PCI device on the wire: four signed words. Clients send 0 for the function, and mean all functions. */
struct nvpd_device {
        int32_t domain;
        int32_t bus;
        int32_t slot;
        int32_t function;
};

/* SetPersistenceMode, SetPersistenceModeOnly (value: enum nvpd_mode) and SetNumaStatus (enum nvpd_numa_status). */
struct nvpd_set_args {
        struct nvpd_device device;
        int32_t value; /* as sent: the method rejects a value out of range, not the decoder */
};

void nvpd_device_decode(struct xdr_reader *reader, struct nvpd_device *device);
void nvpd_device_encode(struct xdr_writer *writer, const struct nvpd_device *device);
void nvpd_set_args_decode(struct xdr_reader *reader, struct nvpd_set_args *args);
void nvpd_set_args_encode(struct xdr_writer *writer, const struct nvpd_set_args *args);

/* The result of GetPersistenceMode. The mode is sent only with NVPD_SUCCESS. */
struct nvpd_get_result {
        uint32_t status;
        uint32_t mode;
};

void nvpd_get_result_decode(struct xdr_reader *reader, struct nvpd_get_result *result);
void nvpd_get_result_encode(struct xdr_writer *writer, const struct nvpd_get_result *result);

/* A sentence for people; "?" for an unknown value. */
const char *nvpd_status_text(uint32_t status);
