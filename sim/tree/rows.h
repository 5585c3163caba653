#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The table for the file tree: each file's folder, name, mode and text, and for which GPUs it exists. tree.c uses it.
 */

#include <stdbool.h>
#include <sys/stat.h>

#include "sim/tree/procfs.h"

enum { ROW_NAME_SIZE = 64 };

enum row_id {
        ROW_NONE,
        ROW_ROOT = 1, /* TREE_ROOT */
        ROW_DEV,
        ROW_DEV_CTL,
        ROW_DEV_GPU,
        ROW_DEV_UVM,
        ROW_DEV_KMSG,
        ROW_PROC,
        ROW_PROC_DEVICES,
        ROW_PROC_DRIVER,
        ROW_PROC_NVIDIA,
        ROW_PROC_VERSION,
        ROW_PROC_PARAMS,
        ROW_PROC_REGISTRY,
        ROW_PROC_GPUS,
        ROW_PROC_GPU,
        ROW_GPU_INFORMATION,
        ROW_GPU_POWER,
        ROW_GPU_REGISTRY,
        ROW_GPU_NUMA_STATUS,
        ROW_PROC_UVM,
        ROW_PROC_UVM_GPUS,
        ROW_PROC_UVM_GPU,
        ROW_SYS,
        ROW_SYS_MODULE,
        ROW_SYS_MODULE_NVIDIA,
        ROW_MODULE_INITSTATE,
        ROW_MODULE_VERSION,
        ROW_MODULE_REFCNT,
        ROW_SYS_BUS,
        ROW_SYS_PCI,
        ROW_PCI_DEVICES,
        ROW_PCI_DEVICE_LINK,
        ROW_PCI_BRIDGE_LINK,
        ROW_PCI_PLACES,
        ROW_PCI_BRIDGE,
        ROW_BRIDGE_VENDOR,
        ROW_BRIDGE_DEVICE_ID,
        ROW_BRIDGE_CLASS,
        ROW_BRIDGE_CONFIG,
        ROW_PCI_DEVICE,
        ROW_PCI_VENDOR,
        ROW_PCI_DEVICE_ID,
        ROW_PCI_CLASS,
        ROW_PCI_NUMA_NODE,
        ROW_PCI_REVISION,
        ROW_PCI_SUBSYSTEM_VENDOR,
        ROW_PCI_SUBSYSTEM_DEVICE,
        ROW_PCI_IRQ,
        ROW_PCI_RESOURCE,
        ROW_PCI_CONFIG,
        ROW_PCI_RESET,
        ROW_PCI_REMOVE,
        ROW_PCI_DRIVER,
        ROW_PCI_MSI_IRQS,
        ROW_PCI_MSI_IRQ,
        ROW_PCI_DRIVERS,
        ROW_PCI_DRIVERS_NVIDIA,
        ROW_DRIVER_BIND,
        ROW_DRIVER_UNBIND,
        ROW_PCI_BOUND,
        ROW_PCI_RESCAN,
        ROW_SYS_DEVICES,
        ROW_SYS_SYSTEM,
        ROW_SYS_MEMORY,
        ROW_MEMORY_BLOCK_SIZE,
        ROW_MEMORY_AUTO_ONLINE,
        ROW_MEMORY_PROBE,
        ROW_MEMORY_BLOCK,
        ROW_BLOCK_STATE,
        ROW_BLOCK_VALID_ZONES,
        ROW_RUN,
        ROW_VAR,
        ROW_VAR_RUN,
        N_ROWS,
};

/*
 * A row for each file, and for each kind of file whose name depends on the GPU (gpu_name). `shown` decides for which
 * GPUs the file exists. All files below a GPU's folder are about that GPU.
 */
struct row {
        enum row_id folder;
        mode_t mode;
        const char *name;
        procfs_text text;
        bool (*shown)(const struct model_gpu_view *gpu);
        void (*gpu_name)(const struct model_gpu_view *gpu, char name[static ROW_NAME_SIZE]);
        const char *fixed; /* the text, if it is constant; "" for a file that is only written */
        unsigned value;    /* for `text` */
};

extern const struct row rows[N_ROWS];
