/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "client/nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "client/nvml_private.h"

static const struct {
        const char *name;
        size_t offset;
} symbols[] = {
        {"nvmlDeviceGetHandleByPciBusId_v2", offsetof(struct nvml, get_handle)},
        {"nvmlDeviceSetPersistenceMode", offsetof(struct nvml, set_persistence)},
        {"nvmlErrorString", offsetof(struct nvml, error_string)},
        {"nvmlInit_v2", offsetof(struct nvml, init)},
        {"nvmlShutdown", offsetof(struct nvml, shutdown)},
};

void nvml_done(struct nvml **nvml) {
        if (!*nvml)
                return;
        if ((*nvml)->started)
                (void)(*nvml)->shutdown();
        if ((*nvml)->library)
                (void)dlclose((*nvml)->library);
        free(*nvml);
        *nvml = NULL;
}

static int load(struct nvml *nvml, const char *library, char *error, size_t error_size) {
        nvml->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (!nvml->library) {
                (void)text_format(error, error_size, "cannot load %s: %s", library, dlerror());
                return -ENOENT;
        }
        for (size_t i = 0; i < ARRAY_SIZE(symbols); i++) {
                void *symbol = dlsym(nvml->library, symbols[i].name);

                if (!symbol) {
                        (void)text_format(error, error_size, "%s has no %s: it is not NVML, or too old", library,
                                          symbols[i].name);
                        return -ENOENT;
                }
                memcpy((char *)nvml + symbols[i].offset, &symbol, sizeof(symbol));
        }
        return 0;
}

int nvml_open(struct nvml **ret_nvml, const char *library, char *error, size_t error_size) {
        CLEANUP(nvml_done) struct nvml *nvml = calloc(1, sizeof(*nvml));
        int r;

        if (!nvml) {
                (void)text_copy(error, error_size, "out of memory");
                return -ENOMEM;
        }
        r = load(nvml, library, error, error_size);
        if (r < 0)
                return r;
        r = nvml->init();
        if (r != NVML_SUCCESS) {
                (void)text_format(error, error_size, "NVML does not start: %s (%d)", nvml->error_string(r), r);
                return -EIO;
        }
        nvml->started = true;
        *ret_nvml = take_ptr(nvml);
        return 0;
}

static const struct {
        int result;
        int error;
        const char *cure;
} failures[] = {
        {NVML_ERROR_NOT_SUPPORTED, -EOPNOTSUPP, "this GPU or driver has no such flag; run nvidia-persistenced instead"},
        {NVML_ERROR_NO_PERMISSION, -EPERM, "only root may set the kernel's flag; run this as root"},
        {NVML_ERROR_NOT_FOUND, -ENODEV, "NVML does not list this GPU; see nvidia-smi -L"},
        {NVML_ERROR_GPU_IS_LOST, -EIO, "it has fallen off the bus; the node needs a reset or a reboot"},
};

static int fail(struct nvml *nvml, int result, const char *what, char *error, size_t error_size) {
        const char *cure = "see the kernel log";
        int error_number = -EIO;

        for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
                if (failures[i].result == result) {
                        error_number = failures[i].error;
                        cure = failures[i].cure;
                }
        (void)text_format(error, error_size, "%s: %s: %s", what, nvml->error_string(result), cure);
        return error_number;
}

int nvml_find_device(struct nvml *nvml, const struct pci_address *address, void **ret_device, char *error,
                     size_t error_size) {
        char bus_id[PCI_ADDRESS_SIZE];
        int result = nvml->get_handle(pci_address_format_nvml(address, bus_id), ret_device);

        return result == NVML_SUCCESS ? 0 : fail(nvml, result, "NVML cannot open the GPU", error, error_size);
}

int nvml_set_persistence(struct nvml *nvml, const struct pci_address *address, bool enabled, char *error,
                         size_t error_size) {
        void *device = NULL;
        int result, r;

        r = nvml_find_device(nvml, address, &device, error, error_size);
        if (r < 0)
                return r;
        result = nvml->set_persistence(device, enabled);
        if (result != NVML_SUCCESS)
                return fail(nvml, result, "NVML cannot set the kernel's flag", error, error_size);
        return 0;
}
