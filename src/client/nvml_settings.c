/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "client/nvml_settings.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "client/nvml_private.h"

enum {
        MILLIWATTS = 1000,
        CLOCKS_MAX = 1024,
};

/* The signatures of NVML's functions; its enumerations have the size of an int. */
typedef int get_one(void *device, unsigned *ret_value);
typedef int get_two(void *device, unsigned *ret_first, unsigned *ret_second);
typedef int set_one(void *device, unsigned value);
typedef int set_two(void *device, unsigned low, unsigned high);
typedef int get_list(void *device, unsigned *count, unsigned *clocks);
typedef int get_list_for(void *device, unsigned memory_clock, unsigned *count, unsigned *clocks);

enum shape {
        SHAPE_NONE,
        SHAPE_ONE,
        SHAPE_TWO, /* when reading: the current value, and the one after the next reset */
};

static const struct {
        const char *read_name;
        enum shape read_shape;
        const char *write_name;
        enum shape write_shape;
        unsigned scale; /* NVML's units in one of ours */
} functions[N_SETTINGS] = {
        /* clang-format off */
        [SETTING_POWER_LIMIT] = {"nvmlDeviceGetPowerManagementLimit", SHAPE_ONE,
                                 "nvmlDeviceSetPowerManagementLimit", SHAPE_ONE, MILLIWATTS},
        [SETTING_GRAPHICS_CLOCKS] = {NULL, SHAPE_NONE, "nvmlDeviceSetGpuLockedClocks", SHAPE_TWO, 1},
        [SETTING_MEMORY_CLOCKS] = {NULL, SHAPE_NONE, "nvmlDeviceSetMemoryLockedClocks", SHAPE_TWO, 1},
        [SETTING_COMPUTE_MODE] = {"nvmlDeviceGetComputeMode", SHAPE_ONE, "nvmlDeviceSetComputeMode", SHAPE_ONE, 1},
        [SETTING_ECC] = {"nvmlDeviceGetEccMode", SHAPE_TWO, NULL, SHAPE_NONE, 1},
        [SETTING_MIG] = {"nvmlDeviceGetMigMode", SHAPE_TWO, NULL, SHAPE_NONE, 1},
        /* clang-format on */
};

/* Stores the function in *ret_function, a function pointer. Returns whether the library has it. */
static bool find(const struct nvml_gpu *gpu, const char *name, void *ret_function) {
        void *symbol = name ? dlsym(gpu->nvml->library, name) : NULL;

        memcpy(ret_function, &symbol, sizeof(symbol));
        return symbol != NULL;
}

static int lacks(const char *name, char *error, size_t error_size) {
        (void)text_format(error, error_size, "this NVML is too old: it has no %s", name);
        return -EOPNOTSUPP;
}

static int fail(const struct nvml_gpu *gpu, int result, const char *does, char *error, size_t error_size) {
        if (result == NVML_ERROR_NOT_SUPPORTED) {
                (void)text_copy(error, error_size, "this GPU or driver does not support it");
                return -EOPNOTSUPP;
        }
        if (result == NVML_ERROR_NO_PERMISSION) {
                (void)text_copy(error, error_size, "only root may change it; run this as root");
                return -EPERM;
        }
        (void)text_format(error, error_size, "NVML does not %s it: %s (%d)", does, gpu->nvml->error_string(result),
                          result);
        return result == NVML_ERROR_INVALID_ARGUMENT ? -EINVAL : -EIO;
}

int nvml_gpu_open(struct nvml_gpu *gpu, struct nvml *nvml, const struct pci_address *address, char *error,
                  size_t error_size) {
        *gpu = (struct nvml_gpu){.nvml = nvml};
        return nvml_find_device(nvml, address, &gpu->device, error, error_size);
}

int nvml_setting_read(const struct nvml_gpu *gpu, enum setting setting, struct setting_value *ret_value, char *error,
                      size_t error_size) {
        const char *name = functions[setting].read_name;
        unsigned current = 0, pending;
        void *function;
        int result;

        if (!name)
                return -ENODATA;
        if (!find(gpu, name, &function))
                return lacks(name, error, error_size);
        result = functions[setting].read_shape == SHAPE_ONE ? ((get_one *)function)(gpu->device, &current)
                                                            : ((get_two *)function)(gpu->device, &current, &pending);
        if (result != NVML_SUCCESS)
                return fail(gpu, result, "report", error, error_size);
        current /= functions[setting].scale;
        *ret_value = (struct setting_value){.is_set = true, .low = current, .high = current};
        return 0;
}

static int range_of_list(const unsigned *clocks, unsigned n, unsigned *ret_low, unsigned *ret_high) {
        unsigned low = n > 0 ? clocks[0] : 0, high = low;

        for (unsigned i = 1; i < n; i++) {
                low = clocks[i] < low ? clocks[i] : low;
                high = clocks[i] > high ? clocks[i] : high;
        }
        if (high == 0)
                return -ENODATA;
        *ret_low = low;
        *ret_high = high;
        return 0;
}

static int memory_clock_range(const struct nvml_gpu *gpu, unsigned *ret_low, unsigned *ret_high) {
        unsigned clocks[CLOCKS_MAX], n = CLOCKS_MAX;
        get_list *list;

        if (!find(gpu, "nvmlDeviceGetSupportedMemoryClocks", &list) || list(gpu->device, &n, clocks) != NVML_SUCCESS)
                return -ENODATA;
        return range_of_list(clocks, n, ret_low, ret_high);
}

/* Uses the highest memory clock, which has the widest range of graphics clocks. */
static int graphics_clock_range(const struct nvml_gpu *gpu, unsigned *ret_low, unsigned *ret_high) {
        unsigned clocks[CLOCKS_MAX], n = CLOCKS_MAX, low, high;
        get_list_for *list;

        if (memory_clock_range(gpu, &low, &high) < 0 || !find(gpu, "nvmlDeviceGetSupportedGraphicsClocks", &list) ||
            list(gpu->device, high, &n, clocks) != NVML_SUCCESS)
                return -ENODATA;
        return range_of_list(clocks, n, ret_low, ret_high);
}

static int power_range(const struct nvml_gpu *gpu, unsigned *ret_low, unsigned *ret_high) {
        unsigned low, high;
        get_two *constraints;

        if (!find(gpu, "nvmlDeviceGetPowerManagementLimitConstraints", &constraints) ||
            constraints(gpu->device, &low, &high) != NVML_SUCCESS)
                return -ENODATA;
        *ret_low = (low + MILLIWATTS - 1) / MILLIWATTS;
        *ret_high = high / MILLIWATTS;
        return 0;
}

int nvml_setting_range(const struct nvml_gpu *gpu, enum setting setting, unsigned *ret_low, unsigned *ret_high) {
        switch (setting) {
        case SETTING_POWER_LIMIT:
                return power_range(gpu, ret_low, ret_high);
        case SETTING_GRAPHICS_CLOCKS:
                return graphics_clock_range(gpu, ret_low, ret_high);
        case SETTING_MEMORY_CLOCKS:
                return memory_clock_range(gpu, ret_low, ret_high);
        default:
                return -ENODATA;
        }
}

int nvml_setting_write(const struct nvml_gpu *gpu, enum setting setting, const struct setting_value *value, char *error,
                       size_t error_size) {
        const char *name = functions[setting].write_name;
        unsigned scale = functions[setting].scale;
        void *function;
        int result;

        if (!find(gpu, name, &function))
                return lacks(name ? name : "function for it", error, error_size);
        result = functions[setting].write_shape == SHAPE_ONE
                         ? ((set_one *)function)(gpu->device, value->high * scale)
                         : ((set_two *)function)(gpu->device, value->low * scale, value->high * scale);
        return result == NVML_SUCCESS ? 0 : fail(gpu, result, "set", error, error_size);
}
