/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The nvidia-cfg backend: NVIDIA's libnvidia-cfg.so.1, loaded at run time, opens and closes the GPUs. It is for those
 * who need exactly what NVIDIA's daemon does. The default is the kernel backend, which needs no library.
 */

#include "gpu/backend.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/locations.h"
#include "base/log.h"
#include "base/text.h"
#include "gpu/abi.h"
#include "gpu/numa.h"

/* The library's interface (nvidia-cfg.h of NVIDIA's open-source tools). Booleans are ints, 1 for success. */
struct nvcfg_pci_device {
        int domain;
        int bus;
        int slot;
        int function;
};

struct nvcfg {
        void *library;
        int (*get_devices)(int *ret_n, struct nvcfg_pci_device **ret_devices);
        int (*open)(int domain, int bus, int slot, int function, void **ret_handle);
        int (*close)(void *handle);
        unsigned (*uvm_enable)(void *handle);  /* may be missing */
        unsigned (*uvm_disable)(void *handle); /* may be missing */
        const struct locations *locations;
};

static int load_symbol(struct nvcfg *nvcfg, const char *name, void *ret_function) {
        void *symbol = dlsym(nvcfg->library, name);

        memcpy(ret_function, &symbol, sizeof(symbol)); /* how POSIX converts an object pointer to a function pointer */
        return symbol ? 0 : -ENOSYS;
}

static void nvcfg_stop(void *context) {
        struct nvcfg *nvcfg = context;

        if (!nvcfg)
                return;
        if (nvcfg->library)
                (void)dlclose(nvcfg->library);
        free(nvcfg);
}

static void nvcfg_done(struct nvcfg **nvcfg) {
        nvcfg_stop(*nvcfg);
}

static int load_library(struct nvcfg *nvcfg, const char *folder) {
        static const char name[] = "libnvidia-cfg.so.1";
        char path[PATH_MAX];

        if (text_format(path, sizeof(path), "%s%s%s", folder ? folder : "", folder ? "/" : "", name) < 0)
                return log_errno(LOG_ERR, -ENAMETOOLONG, "cannot load %s from %s", name, folder);
        nvcfg->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!nvcfg->library) {
                log_write(LOG_ERR,
                          "cannot load %s: %s; give its folder with --nvidia-cfg-path, or use --backend=kernel", path,
                          dlerror());
                return -ELIBACC;
        }
        if (load_symbol(nvcfg, "nvCfgGetPciDevices", &nvcfg->get_devices) < 0 ||
            load_symbol(nvcfg, "nvCfgOpenPciDevice", &nvcfg->open) < 0 ||
            load_symbol(nvcfg, "nvCfgCloseDevice", &nvcfg->close) < 0) {
                log_write(LOG_ERR, "%s is not NVIDIA's configuration library: %s", path, dlerror());
                return -ELIBBAD;
        }
        (void)load_symbol(nvcfg, "nvCfgEnableUVMPersistence", &nvcfg->uvm_enable);
        (void)load_symbol(nvcfg, "nvCfgDisableUVMPersistence", &nvcfg->uvm_disable);
        return 0;
}

static int nvcfg_start(const struct gpu_backend_config *config, void **ret_context) {
        CLEANUP(nvcfg_done) struct nvcfg *nvcfg = calloc(1, sizeof(*nvcfg));
        int r;

        if (!nvcfg)
                return log_errno(LOG_ERR, -ENOMEM, "cannot start the nvidia-cfg backend");
        nvcfg->locations = config->locations;
        r = load_library(nvcfg, config->nvidia_cfg_path);
        if (r < 0)
                return r;
        *ret_context = take_ptr(nvcfg);
        return 0;
}

static int compare_infos(const void *a, const void *b) {
        return pci_address_compare(&((const struct gpu_info *)a)->address, &((const struct gpu_info *)b)->address);
}

/* The library returns only addresses; name and UUID come from /proc if it can be read. */
static int nvcfg_list(void *context, struct gpu_info **ret_gpus, size_t *ret_n) {
        struct nvcfg *nvcfg = context;
        CLEANUP(free_ptr) struct nvcfg_pci_device *devices = NULL;
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        int n = 0;

        if (!nvcfg->get_devices(&n, &devices))
                return -ENXIO;
        gpus = calloc((size_t)n + 1, sizeof(*gpus));
        if (!gpus)
                return -ENOMEM;
        for (int i = 0; i < n; i++) {
                struct pci_address address = {
                        .domain = (uint32_t)devices[i].domain,
                        .bus = (uint8_t)devices[i].bus,
                        .slot = (uint8_t)devices[i].slot,
                };

                if (inventory_read_gpu(nvcfg->locations, &address, &gpus[i]) < 0)
                        gpus[i] = (struct gpu_info){.address = address, .minor = GPU_MINOR_UNKNOWN};
        }
        qsort(gpus, (size_t)n, sizeof(*gpus), compare_infos);
        *ret_gpus = take_ptr(gpus);
        *ret_n = (size_t)n;
        return 0;
}

static int nvcfg_open(void *context, const struct pci_address *address, struct gpu_hold *ret_hold,
                      struct gpu_failure *ret_failure) {
        struct nvcfg *nvcfg = context;
        struct gpu_hold hold = GPU_HOLD_NONE;
        struct gpu_info info;

        if (!nvcfg->open((int)address->domain, address->bus, address->slot, address->function, &hold.handle))
                return gpu_failure_set(ret_failure, -EIO, NV_OK, "nvCfgOpenPciDevice failed");
        if (inventory_read_gpu(nvcfg->locations, address, &info) == 0)
                hold.minor = info.minor;
        *ret_hold = hold;
        return 0;
}

static int nvcfg_close(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                       struct gpu_failure *ret_failure) {
        struct nvcfg *nvcfg = context;

        if (hold->uvm && nvcfg->uvm_disable)
                (void)nvcfg->uvm_disable(hold->handle);
        hold->uvm = false;
        if (!nvcfg->close(hold->handle))
                return gpu_failure_set(ret_failure, -EIO, NV_OK, "nvCfgCloseDevice failed");
        *hold = GPU_HOLD_NONE;
        return 0;
}

static int nvcfg_uvm_enable(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                            struct gpu_failure *ret_failure) {
        struct nvcfg *nvcfg = context;
        unsigned status;

        if (!nvcfg->uvm_enable)
                return gpu_failure_set(ret_failure, -EOPNOTSUPP, NV_OK,
                                       "libnvidia-cfg.so.1 has no nvCfgEnableUVMPersistence (it came with 550.40.07)");
        status = nvcfg->uvm_enable(hold->handle);
        if (status != NV_OK)
                return gpu_failure_set(ret_failure, status == NV_ERR_NVLINK_FABRIC_NOT_READY ? -EAGAIN : -EIO, status,
                                       "nvCfgEnableUVMPersistence failed");
        hold->uvm = true;
        return 0;
}

static int nvcfg_uvm_disable(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                             struct gpu_failure *ret_failure) {
        struct nvcfg *nvcfg = context;
        unsigned status = nvcfg->uvm_disable ? nvcfg->uvm_disable(hold->handle) : NV_OK;

        if (status != NV_OK)
                return gpu_failure_set(ret_failure, -EIO, status, "nvCfgDisableUVMPersistence failed");
        hold->uvm = false;
        return 0;
}

/* The library does not share its descriptors, which would be needed for this. */
static int nvcfg_numa_set(void *context, const struct pci_address *address, struct gpu_hold *hold, bool online,
                          struct gpu_failure *ret_failure) {
        struct nvcfg *nvcfg = context;
        (void)hold;

        return numa_is_present(nvcfg->locations, address)
                       ? gpu_failure_set(ret_failure, -EOPNOTSUPP, NV_OK, "only the kernel backend manages NUMA memory")
                       : 0;
}

static int nvcfg_subscribe(void *context, struct rm_events **ret_events, struct gpu_failure *ret_failure) {
        struct nvcfg *nvcfg = context;

        return rm_events_open(ret_events, nvcfg->locations, ret_failure);
}

const struct gpu_ops gpu_nvcfg_ops = {
        .name = "nvidia-cfg",
        .closed_library = true,
        .start = nvcfg_start,
        .stop = nvcfg_stop,
        .list = nvcfg_list,
        .open = nvcfg_open,
        .close = nvcfg_close,
        .uvm_enable = nvcfg_uvm_enable,
        .uvm_disable = nvcfg_uvm_disable,
        .numa_set = nvcfg_numa_set,
        .subscribe = nvcfg_subscribe,
        .events_fd = rm_events_fd,
        .read_events = rm_events_read,
        .unsubscribe = rm_events_free,
};
