/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/nvpd.h"

#include "base/cleanup.h"

static const char *const status_texts[] = {
        [NVPD_SUCCESS] = "done",
        [NVPD_DAEMON_NOT_PRESENT] = "no persistence daemon is running",
        [NVPD_DEVICE_NOT_FOUND] = "the daemon knows no GPU at this PCI address",
        [NVPD_DRIVER] = "the driver refused to open or close the GPU",
        [NVPD_INSUFFICIENT_RESOURCES] = "the daemon ran out of memory or descriptors",
        [NVPD_INVALID_ARGUMENT] = "the daemon does not know the requested value",
        [NVPD_IO] = "the daemon had an input or output error",
        [NVPD_PERMISSIONS] = "only root and members of the daemon's admin group may change this",
        [NVPD_RPC] = "the call did not reach the daemon",
        [NVPD_USER_NOT_FOUND] = "the user is not known on this system",
        [NVPD_NUMA_FAILURE] = "the GPU's memory could not be brought on- or offline; the mode was restored",
        [NVPD_UNKNOWN] = "the daemon could not identify the caller",
};

void nvpd_device_decode(struct xdr_reader *reader, struct nvpd_device *device) {
        device->domain = xdr_read_i32(reader);
        device->bus = xdr_read_i32(reader);
        device->slot = xdr_read_i32(reader);
        device->function = xdr_read_i32(reader);
}

void nvpd_device_encode(struct xdr_writer *writer, const struct nvpd_device *device) {
        xdr_write_i32(writer, device->domain);
        xdr_write_i32(writer, device->bus);
        xdr_write_i32(writer, device->slot);
        xdr_write_i32(writer, device->function);
}

void nvpd_set_args_decode(struct xdr_reader *reader, struct nvpd_set_args *args) {
        nvpd_device_decode(reader, &args->device);
        args->value = xdr_read_i32(reader);
}

void nvpd_set_args_encode(struct xdr_writer *writer, const struct nvpd_set_args *args) {
        nvpd_device_encode(writer, &args->device);
        xdr_write_i32(writer, args->value);
}

void nvpd_get_result_decode(struct xdr_reader *reader, struct nvpd_get_result *result) {
        result->status = xdr_read_u32(reader);
        result->mode = result->status == NVPD_SUCCESS ? xdr_read_u32(reader) : NVPD_MODE_DISABLED;
}

void nvpd_get_result_encode(struct xdr_writer *writer, const struct nvpd_get_result *result) {
        xdr_write_u32(writer, result->status);
        if (result->status == NVPD_SUCCESS)
                xdr_write_u32(writer, result->mode);
}

const char *nvpd_status_text(uint32_t status) {
        return status < ARRAY_SIZE(status_texts) ? status_texts[status] : "?";
}
