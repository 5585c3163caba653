/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A stand-in for libcuda.so.1 on the simulated driver below HOLDFAST_ROOT, with the functions for a first context.
 * CUDA_VISIBLE_DEVICES names the GPU by its UUID. A context is its open node, which stays open until the process ends.
 */

#include <fcntl.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "gpu/inventory.h"

#define EXPORT __attribute__((visibility("default")))

/* CUresult */
enum {
        SUCCESS = 0,
        ERROR_INVALID_VALUE = 1,
        ERROR_NOT_INITIALIZED = 3,
        ERROR_NO_DEVICE = 100,
        ERROR_DEVICE_UNAVAILABLE = 46,
};

static int minor = GPU_MINOR_UNKNOWN;

EXPORT int cuInit(unsigned flags);
EXPORT int cuDeviceGet(int *ret_device, int ordinal);
EXPORT int cuDevicePrimaryCtxRetain(void **ret_context, int device);
EXPORT int cuGetErrorString(int result, const char **ret_text);

static struct locations locations(void) {
        return locations_of(getenv("HOLDFAST_ROOT"), false);
}

int cuInit(unsigned flags) {
        const char *uuid = getenv("CUDA_VISIBLE_DEVICES");
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        const struct locations there = locations();
        size_t n = 0;

        if (flags != 0)
                return ERROR_INVALID_VALUE;
        if (inventory_read(&there, &gpus, &n) < 0)
                return ERROR_NO_DEVICE;
        for (size_t i = 0; i < n && uuid; i++)
                if (text_equal(gpus[i].uuid, uuid))
                        minor = gpus[i].minor;
        return minor >= 0 ? SUCCESS : ERROR_NO_DEVICE;
}

int cuDeviceGet(int *ret_device, int ordinal) {
        if (minor < 0)
                return ERROR_NOT_INITIALIZED;
        if (ordinal != 0)
                return ERROR_INVALID_VALUE;
        *ret_device = ordinal;
        return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **ret_context, int device) {
        static int context; /* its address is the handle */
        char node[256];

        if (text_format(node, sizeof(node), "%s/dev/nvidia%d", locations().root, minor) < 0 ||
            open(node, O_RDWR | O_CLOEXEC) < 0)
                return ERROR_DEVICE_UNAVAILABLE;
        *ret_context = &context;
        return SUCCESS;
}

int cuGetErrorString(int result, const char **ret_text) {
        *ret_text = result == ERROR_NO_DEVICE ? "no CUDA-capable device is detected"
                                              : "CUDA-capable device(s) is/are busy or unavailable";
        return SUCCESS;
}
