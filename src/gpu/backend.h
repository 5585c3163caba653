#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * How GPUs are held: one interface, two backends.
 *
 *      kernel       opens /dev/nvidiaN itself: the descriptor is the hold (backend/kernel.c)
 *      nvidia-cfg   uses NVIDIA's libnvidia-cfg.so.1, loaded at run time (backend/nvcfg.c)
 *
 * open, adopt, close, uvm_* and numa_set enter the driver and may sleep there for seconds, or for ever. They are called
 * on worker threads only. Calls for different GPUs run concurrently, but there is never more than one for the same GPU:
 * a second blocking open would stall the opens of all other GPUs (kernel-open/nvidia/nv.c,
 * nv_try_lock_foreground_open).
 */

#include "base/locations.h"
#include "gpu/failure.h"
#include "gpu/inventory.h"
#include "gpu/rm.h"

/* The driver's own, deprecated persistence flag of a GPU. Zero is unknown. */
enum gpu_legacy {
        GPU_LEGACY_UNKNOWN,
        GPU_LEGACY_OFF,
        GPU_LEGACY_ON,
};

/* The descriptors of one held GPU. The GPU's state machine owns it; between jobs no other code uses it. */
struct gpu_hold {
        int device_fd;            /* kernel: /dev/nvidiaN */
        int uvm_fd;               /* kernel: /dev/nvidia-uvm with this GPU registered; -1 without UVM persistence */
        void *handle;             /* nvidia-cfg: NvCfgDeviceHandle */
        bool uvm;                 /* UVM persistence is on */
        int minor;                /* the minor at the time of the open; GPU_MINOR_UNKNOWN if it could not be read */
        char uuid[GPU_UUID_SIZE]; /* the driver knows it after the first initialisation; empty: not reported */
};

#define GPU_HOLD_NONE ((struct gpu_hold){.device_fd = -1, .uvm_fd = -1, .minor = GPU_MINOR_UNKNOWN})

/*
 * The interface to the keeper, which stores copies of descriptors so that a hold outlives this process
 * (daemon/manager/keeper.h). The backend calls it on worker threads. A descriptor is stored as soon as it exists, even
 * while its open is still in the driver: if this process is killed then, the next one takes over the initialisation,
 * and no GPU is torn down.
 */
struct gpu_keeper {
        void (*keep)(struct gpu_keeper *keeper, const struct pci_address *address, const char *kind, int fd);
        /* Returns 0 if the copy is gone, so that our close is the last one; -ETIMEDOUT if the keeper does not answer;
         * or other negative errno. */
        int (*forget)(struct gpu_keeper *keeper, const struct pci_address *address, const char *kind);
};

#define GPU_KIND_DEVICE "gpu" /* a descriptor of /dev/nvidiaN */
#define GPU_KIND_UVM "uvm"    /* a descriptor of /dev/nvidia-uvm with that GPU registered */

struct gpu_backend_config {
        const struct locations *locations; /* must outlive the backend */
        const char *nvidia_cfg_path;       /* folder of libnvidia-cfg.so.1, or NULL for the loader's own search */
        struct gpu_keeper *keeper;         /* or NULL */
};

struct gpu_ops {
        const char *name;
        /* The backend loads a closed library into this process, which may open, write and connect to anything. If the
         * driver behind the library is simulated, nothing reports hot-plug. */
        bool closed_library;

        /* Loads what the backend needs, while still privileged. Returns 0, or negative errno after logging why. */
        int (*start)(const struct gpu_backend_config *config, void **ret_context);
        void (*stop)(void *context);

        /*
         * Lists the GPUs by ascending address, in an array that the caller frees. Without a driver, the kernel backend
         * lists 0 GPUs; nvidia-cfg returns -ENXIO if its library reports an error.
         */
        int (*list)(void *context, struct gpu_info **ret_gpus, size_t *ret_n);
        /* Whether a driver is bound to the GPU: 1, 0, or negative errno. Never waits. NULL: not supported. */
        int (*is_bound)(void *context, const struct pci_address *address);

        int (*open)(void *context, const struct pci_address *address, struct gpu_hold *ret_hold,
                    struct gpu_failure *ret_failure);
        /*
         * Takes over descriptors in hold that a previous process opened and a keeper kept. If they do not belong to
         * this GPU any more, closes them and fails. NULL: not supported.
         */
        int (*adopt)(void *context, const struct pci_address *address, struct gpu_hold *hold,
                     struct gpu_failure *ret_failure);
        /*
         * Closes UVM first, then the device, and empties hold. Fails, and the GPU stays held, if the keeper does not
         * drop its copy, the system uses the GPU's NUMA memory (gpu/numa.h), or NVIDIA's library fails.
         */
        int (*close)(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                     struct gpu_failure *ret_failure);

        /* -EAGAIN: the NVLink fabric is not ready; try again later. -EOPNOTSUPP: not supported here. */
        int (*uvm_enable)(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                          struct gpu_failure *ret_failure);
        int (*uvm_disable)(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                           struct gpu_failure *ret_failure);

        /*
         * Questions. They open the driver's control node, which can sleep while any GPU initialises, even one that
         * another process opens (before 550.40.07: in state D). So each runs on its own thread, does not use a hold,
         * and nothing waits for its end. NULL: not supported.
         */

        /* Reads the legacy flag of a GPU that this process has open. */
        int (*query)(void *context, const struct gpu_info *info, enum gpu_legacy *ret_legacy,
                     struct gpu_failure *ret_failure);
        /*
         * Asks the driver why an open has failed. On entry, failure is as the open left it. For a drained GPU the error
         * becomes -EBUSY, whatever the open returned.
         */
        void (*explain)(void *context, const struct gpu_info *info, struct gpu_failure *failure);

        /* Brings the GPU's memory online or offline as a NUMA node if user space must do that (gpu/numa.h). hold may be
         * empty. */
        int (*numa_set)(void *context, const struct pci_address *address, struct gpu_hold *hold, bool online,
                        struct gpu_failure *ret_failure);

        /*
         * The driver's bind and unbind notices (gpu/rm.h has the contract). subscribe, read_events and unsubscribe
         * enter the driver and may sleep there. NULL: the backend reports no unbinds, and the daemon waits for none.
         */
        int (*subscribe)(void *context, struct rm_events **ret_events, struct gpu_failure *ret_failure);
        int (*events_fd)(const struct rm_events *events);
        int (*read_events)(struct rm_events *events, struct rm_event *ret_events, size_t max, size_t *ret_n,
                           struct gpu_failure *ret_failure);
        void (*unsubscribe)(struct rm_events *events);
};

extern const struct gpu_ops gpu_kernel_ops;
extern const struct gpu_ops gpu_nvcfg_ops;

/* Finds a backend by its name; NULL if there is none. */
const struct gpu_ops *gpu_ops_find(const char *name);
