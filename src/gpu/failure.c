/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gpu/abi.h"

/* What an errno of open("/dev/nvidiaN") means and what to do about it (kernel-open/nvidia/nv.c, nv_open_device). */
static const struct {
        int error;
        bool transient;
        const char *meaning;
} meanings[] = {
        {ENOENT, true, "the device node is missing; nvidia-modprobe or udev creates it"},
        {ENXIO, true, "the driver does not serve this node yet; is the nvidia module loaded?"},
        {ENODEV, true, "the driver does not list this GPU; it was unbound or removed"},
        {EINTR, true, "interrupted"},
        {EACCES, false, "the node's mode does not let this user open it; see NVreg_DeviceFileMode"},
        {EPERM, false,
         "the GPU is excluded from the driver, or a device cgroup forbids it; see NVreg_ExcludedGpus, DeviceAllow="},
        {EIO, false, "the GPU did not initialise; the kernel log has the reason in a line with RmInitAdapter or Xid"},
        {EINVAL, false, "the driver lacks what it needs to start this GPU (NUMA parameters, power)"},
        {EBUSY, false, "the GPU is being drained or removed; end that with nvidia-smi drain, or bind it again"},
        {EMFILE, true, "this process has too many files open; raise LimitNOFILE="},
        {ENOMEM, true, "out of memory"},
};

static const struct {
        uint32_t status;
        const char *name;
} names[] = {
        {NV_ERR_GPU_IS_LOST, "NV_ERR_GPU_IS_LOST"},
        {NV_ERR_ILLEGAL_ACTION, "NV_ERR_ILLEGAL_ACTION"},
        {NV_ERR_INSUFFICIENT_PERMISSIONS, "NV_ERR_INSUFFICIENT_PERMISSIONS"},
        {NV_ERR_INSUFFICIENT_POWER, "NV_ERR_INSUFFICIENT_POWER"},
        {NV_ERR_INVALID_ARGUMENT, "NV_ERR_INVALID_ARGUMENT"},
        {NV_ERR_INVALID_CLIENT, "NV_ERR_INVALID_CLIENT"},
        {NV_ERR_INVALID_COMMAND, "NV_ERR_INVALID_COMMAND"},
        {NV_ERR_INVALID_DEVICE, "NV_ERR_INVALID_DEVICE"},
        {NV_ERR_INVALID_PARAM_STRUCT, "NV_ERR_INVALID_PARAM_STRUCT"},
        {NV_ERR_INVALID_STATE, "NV_ERR_INVALID_STATE"},
        {NV_ERR_NOT_SUPPORTED, "NV_ERR_NOT_SUPPORTED"},
        {NV_ERR_NVLINK_FABRIC_NOT_READY, "NV_ERR_NVLINK_FABRIC_NOT_READY"},
        {NV_ERR_OBJECT_NOT_FOUND, "NV_ERR_OBJECT_NOT_FOUND"},
        {NV_ERR_OPERATING_SYSTEM, "NV_ERR_OPERATING_SYSTEM"},
};

const char *nv_status_name(uint32_t status) {
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (names[i].status == status)
                        return names[i].name;
        return NULL;
}

bool gpu_failure_is_transient(int error) {
        for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
                if (meanings[i].error == -error)
                        return meanings[i].transient;
        return false;
}

static const char *meaning_of(int error) {
        for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
                if (meanings[i].error == -error)
                        return meanings[i].meaning;
        return NULL;
}

static void fill(struct gpu_failure *failure, int error, uint32_t nv_status, const char *cure, const char *format,
                 va_list arguments) __attribute__((format(printf, 5, 0)));

static void fill(struct gpu_failure *failure, int error, uint32_t nv_status, const char *cure, const char *format,
                 va_list arguments) {
        char what[160], reason[64], status[48] = "";
        const char *name = nv_status_name(nv_status);

        (void)vsnprintf(what, sizeof(what), format, arguments);
        if (name)
                (void)snprintf(status, sizeof(status), ", %s", name);
        else if (nv_status != NV_OK)
                (void)snprintf(status, sizeof(status), ", NV_STATUS 0x%x", nv_status);
        (void)snprintf(failure->text, sizeof(failure->text), "%s: %s%s%s%s", what,
                       strerror_r(-error, reason, sizeof(reason)), status, cure ? "; " : "", cure ? cure : "");
        failure->error = error;
        failure->nv_status = nv_status;
}

int gpu_failure_set(struct gpu_failure *failure, int error, uint32_t nv_status, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        fill(failure, error, nv_status, meaning_of(error), format, arguments);
        va_end(arguments);
        return error;
}

int gpu_failure_explain(struct gpu_failure *failure, int error, uint32_t nv_status, const char *cure,
                        const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        fill(failure, error, nv_status, cure, format, arguments);
        va_end(arguments);
        return error;
}
