#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * How GPUs are held: one interface, two backends.
 *
 *      kernel       opens /dev/nvidiaN itself: the descriptor is the hold (backend/kernel.c)
 *      nvidia-cfg   asks NVIDIA's libnvidia-cfg.so.1, loaded at run time (backend/nvcfg.c)
 *
 * open, close, uvm_* and numa_set enter the driver and may sleep there for seconds, or for ever: they are called on
 * worker threads only, and never twice at the same time for one GPU (a second blocking open would stall every other
 * GPU's: kernel-open/nvidia/nv.c, nv_try_lock_foreground_open). For different GPUs they run concurrently.
 */

#include "base/locations.h"
#include "gpu/failure.h"
#include "gpu/inventory.h"
#include "gpu/rm.h"

/* The kernel's own, deprecated persistence flag of a GPU. Zero is "not known". */
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
        int minor;                /* which it was when it was opened; GPU_MINOR_UNKNOWN where it could not be read */
        char uuid[GPU_UUID_SIZE]; /* the driver learns it by the first initialisation; empty where it does not tell */
};

#define GPU_HOLD_NONE ((struct gpu_hold){.device_fd = -1, .uvm_fd = -1, .minor = GPU_MINOR_UNKNOWN})

/*
 * The interface to the keeper, which stores copies of descriptors so that a hold outlives this process
 * (daemon/manager/keeper.h). Called on worker threads. A descriptor is stored as soon as it exists, even while its open
 * is still in the driver: if this process is killed then, the next one takes over the initialisation, and nothing is
 * torn down.
 */
struct gpu_keeper {
        void (*keep)(struct gpu_keeper *keeper, const struct pci_address *address, const char *kind, int fd);
        /* Returns 0 when the copy is gone, so that our close is the last one; -ETIMEDOUT: the keeper does not answer.
         */
        int (*forget)(struct gpu_keeper *keeper, const struct pci_address *address, const char *kind);
};

#define GPU_KIND_DEVICE "gpu" /* a descriptor of /dev/nvidiaN */
#define GPU_KIND_UVM "uvm"    /* a descriptor of /dev/nvidia-uvm with that GPU registered */

struct gpu_backend_config {
        const struct locations *locations; /* live longer than the backend */
        const char *nvidia_cfg_path;       /* folder of libnvidia-cfg.so.1, or NULL for the loader's own search */
        struct gpu_keeper *keeper;         /* or NULL */
};

struct gpu_ops {
        const char *name;
        /* The backend loads a closed library into this process. The library may open, write and connect to anything,
         * and a simulated driver behind it does not report hot-plug. */
        bool closed_library;

        /* Loads what the backend needs, while still privileged. Returns 0, or negative errno after logging why. */
        int (*start)(const struct gpu_backend_config *config, void **ret_context);
        void (*stop)(void *context);

        /* What GPUs there are, by ascending address, in an array that the caller frees. No driver: 0 GPUs. */
        int (*list)(void *context, struct gpu_info **ret_gpus, size_t *ret_n);

        int (*open)(void *context, const struct pci_address *address, struct gpu_hold *ret_hold,
                    struct gpu_failure *ret_failure);
        /*
         * Takes over what a process before us has opened and a keeper has kept: hold comes with those descriptors, and
         * goes on with them if they still are this GPU's. Otherwise they are closed and this fails. NULL: cannot be
         * done.
         */
        int (*adopt)(void *context, const struct pci_address *address, struct gpu_hold *hold,
                     struct gpu_failure *ret_failure);
        /*
         * UVM first, then the device. The hold is gone afterwards unless this fails with the hold kept (nvidia-cfg; and
         * NUMA memory that the system uses: gpu/numa.h).
         */
        int (*close)(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                     struct gpu_failure *ret_failure);

        /* -EAGAIN: the NVLink fabric is not ready; try again later. -EOPNOTSUPP: cannot be had here. */
        int (*uvm_enable)(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                          struct gpu_failure *ret_failure);
        int (*uvm_disable)(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                           struct gpu_failure *ret_failure);

        /*
         * Questions. They open the driver's control node, which can sleep for as long as any GPU initialises, also one
         * of others (before 550.40.07: in state D). So they have a thread to themselves, use nothing of a hold, and
         * nothing waits for their end. NULL: cannot be done.
         */

        /* The legacy flag. Only for a GPU that this process has open. */
        int (*query)(void *context, const struct gpu_info *info, enum gpu_legacy *ret_legacy,
                     struct gpu_failure *ret_failure);
        /*
         * Finds out from the driver why an open has failed. On entry, failure is as the open left it. A GPU in drain
         * state gets the error -EBUSY, whatever the open returned.
         */
        void (*explain)(void *context, const struct gpu_info *info, struct gpu_failure *failure);

        /* Brings the GPU's memory on- or offline as a NUMA node if user space has to do that (gpu/numa.h). hold may be
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

/* Finds a backend by its name; NULL when there is none. */
const struct gpu_ops *gpu_ops_find(const char *name);
