#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The loaded library, for nvml.c and nvml_settings.c only. */

#include "client/nvml.h"

/* Numbers of the library's public interface (nvml.h: enum nvmlReturn_t). */
enum {
        NVML_SUCCESS = 0,
        NVML_ERROR_INVALID_ARGUMENT = 2,
        NVML_ERROR_NOT_SUPPORTED = 3,
        NVML_ERROR_NO_PERMISSION = 4,
        NVML_ERROR_NOT_FOUND = 6,
        NVML_ERROR_GPU_IS_LOST = 15,
};

struct nvml {
        void *library;
        bool started;
        int (*init)(void);
        int (*shutdown)(void);
        int (*get_handle)(const char *bus_id, void **ret_device);
        int (*set_persistence)(void *device, int enabled);
        const char *(*error_string)(int result);
};

/* Finds the GPU at that address. Returns 0, or negative errno with a sentence in error. */
int nvml_find_device(struct nvml *nvml, const struct pci_address *address, void **ret_device, char *error,
                     size_t error_size);
