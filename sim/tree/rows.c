/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/tree/rows.h"

#include "base/text.h"
#include "sim/tree/kernel_log.h"
#include "sim/tree/sysfs.h"
#include "sim/tree/tree.h"

static bool is_probed(const struct model_gpu_view *gpu) {
        return gpu->probed;
}

/* The kernel removes both links before the driver's remove() waits for users (driver_sysfs_remove()). */
static bool is_linked(const struct model_gpu_view *gpu) {
        return gpu->probed && !gpu->unbinding;
}

static bool is_any(const struct model_gpu_view *gpu) {
        return true;
}

static bool is_on_bus(const struct model_gpu_view *gpu) {
        return gpu->spec.present;
}

static bool has_interrupts(const struct model_gpu_view *gpu) {
        return gpu->interrupts;
}

static bool had_interrupts(const struct model_gpu_view *gpu) {
        return gpu->had_interrupts;
}

static bool has_numa(const struct model_gpu_view *gpu) {
        return gpu->spec.numa != NV_NUMA_DISABLED;
}

static bool has_uvm(const struct model_gpu_view *gpu) {
        return gpu->uvm_registrations > 0;
}

static void name_by_address(const struct model_gpu_view *gpu, char name[static ROW_NAME_SIZE]) {
        (void)pci_address_format(&gpu->spec.address, name);
}

static void name_by_bridge(const struct model_gpu_view *gpu, char name[static ROW_NAME_SIZE]) {
        struct pci_address bridge = sysfs_bridge_of(&gpu->spec.address);

        (void)pci_address_format(&bridge, name);
}

static void name_by_interrupt(const struct model_gpu_view *gpu, char name[static ROW_NAME_SIZE]) {
        (void)text_format(name, ROW_NAME_SIZE, "%u", procfs_interrupt(gpu));
}

static void name_by_uuid(const struct model_gpu_view *gpu, char name[static ROW_NAME_SIZE]) {
        (void)text_copy(name, ROW_NAME_SIZE, gpu->spec.uuid);
}

#define FOLDER (S_IFDIR | 0555)
#define FILE_READ (S_IFREG | 0444)
#define FILE_CHANGE (S_IFREG | 0644)
#define FILE_WRITE (S_IFREG | 0200)
#define LINK (S_IFLNK | 0777)
#define DEVICE (S_IFREG | 0666) /* real device nodes need CUSE, but ioctls also work on plain files */

#define NO_KEYS "Binary: \"\"\n" /* of a registry */

const struct row rows[N_ROWS] = {
        [ROW_ROOT] = {ROW_NONE, FOLDER, ""},
        [ROW_DEV] = {ROW_ROOT, FOLDER, "dev"},
        [ROW_DEV_CTL] = {ROW_DEV, DEVICE, "nvidiactl"},
        [ROW_DEV_GPU] = {ROW_DEV, DEVICE, NULL}, /* nvidia0, nvidia1, ...: list_minors() */
        [ROW_DEV_UVM] = {ROW_DEV, DEVICE, "nvidia-uvm"},
        [ROW_DEV_KMSG] = {ROW_DEV, LINK, "kmsg", .fixed = "../run/" KERNEL_LOG_FIFO},

        [ROW_PROC] = {ROW_ROOT, FOLDER, "proc"},
        [ROW_PROC_DEVICES] = {ROW_PROC, FILE_READ, "devices", procfs_devices},
        [ROW_PROC_DRIVER] = {ROW_PROC, FOLDER, "driver"},
        [ROW_PROC_NVIDIA] = {ROW_PROC_DRIVER, FOLDER, "nvidia"},
        [ROW_PROC_VERSION] = {ROW_PROC_NVIDIA, FILE_READ, "version", procfs_version},
        [ROW_PROC_PARAMS] = {ROW_PROC_NVIDIA, FILE_READ, "params", procfs_params},
        [ROW_PROC_REGISTRY] = {ROW_PROC_NVIDIA, FILE_READ, "registry", .fixed = NO_KEYS},
        [ROW_PROC_GPUS] = {ROW_PROC_NVIDIA, FOLDER, "gpus"},
        [ROW_PROC_GPU] = {ROW_PROC_GPUS, FOLDER, NULL, NULL, is_probed, name_by_address},
        [ROW_GPU_INFORMATION] = {ROW_PROC_GPU, FILE_READ, "information", procfs_information},
        [ROW_GPU_POWER] = {ROW_PROC_GPU, FILE_READ, "power", procfs_power},
        [ROW_GPU_REGISTRY] = {ROW_PROC_GPU, FILE_READ, "registry", .fixed = NO_KEYS},
        [ROW_GPU_NUMA_STATUS] = {ROW_PROC_GPU, FILE_READ, "numa_status", procfs_numa_status, has_numa},
        [ROW_PROC_UVM] = {ROW_PROC_DRIVER, FOLDER, "nvidia-uvm"},
        [ROW_PROC_UVM_GPUS] = {ROW_PROC_UVM, FOLDER, "gpus"},
        [ROW_PROC_UVM_GPU] = {ROW_PROC_UVM_GPUS, FOLDER, NULL, NULL, has_uvm, name_by_uuid},

        [ROW_SYS] = {ROW_ROOT, FOLDER, "sys"},
        [ROW_SYS_MODULE] = {ROW_SYS, FOLDER, "module"},
        [ROW_SYS_MODULE_NVIDIA] = {ROW_SYS_MODULE, FOLDER, "nvidia"},
        [ROW_MODULE_INITSTATE] = {ROW_SYS_MODULE_NVIDIA, FILE_READ, "initstate", .fixed = "live\n"},
        [ROW_MODULE_VERSION] = {ROW_SYS_MODULE_NVIDIA, FILE_READ, "version", sysfs_module_version},
        [ROW_MODULE_REFCNT] = {ROW_SYS_MODULE_NVIDIA, FILE_READ, "refcnt", sysfs_module_refcnt},
        [ROW_SYS_BUS] = {ROW_SYS, FOLDER, "bus"},
        [ROW_SYS_PCI] = {ROW_SYS_BUS, FOLDER, "pci"},
        [ROW_PCI_DEVICES] = {ROW_SYS_PCI, FOLDER, "devices"},
        [ROW_PCI_DEVICE_LINK] = {ROW_PCI_DEVICES, LINK, NULL, sysfs_link_device, is_on_bus, name_by_address},
        [ROW_PCI_BRIDGE_LINK] = {ROW_PCI_DEVICES, LINK, NULL, sysfs_link_bridge, is_any, name_by_bridge},
        [ROW_PCI_PLACES] = {ROW_SYS_PCI, FOLDER, SYSFS_PLACES},
        [ROW_PCI_BRIDGE] = {ROW_PCI_PLACES, FOLDER, NULL, NULL, is_any, name_by_bridge},
        [ROW_BRIDGE_VENDOR] = {ROW_PCI_BRIDGE, FILE_READ, "vendor", sysfs_id, .value = SYSFS_BRIDGE_VENDOR},
        [ROW_BRIDGE_DEVICE_ID] = {ROW_PCI_BRIDGE, FILE_READ, "device", sysfs_id, .value = SYSFS_BRIDGE_DEVICE},
        [ROW_BRIDGE_CLASS] = {ROW_PCI_BRIDGE, FILE_READ, "class", sysfs_class, .value = SYSFS_BRIDGE_CLASS},
        [ROW_BRIDGE_CONFIG] = {ROW_PCI_BRIDGE, FILE_CHANGE, "config", sysfs_bridge_config},
        [ROW_PCI_DEVICE] = {ROW_PCI_BRIDGE, FOLDER, NULL, NULL, is_on_bus, name_by_address},
        [ROW_PCI_VENDOR] = {ROW_PCI_DEVICE, FILE_READ, "vendor", sysfs_id, .value = MODEL_PCI_VENDOR},
        [ROW_PCI_DEVICE_ID] = {ROW_PCI_DEVICE, FILE_READ, "device", sysfs_id, .value = MODEL_PCI_DEVICE},
        [ROW_PCI_CLASS] = {ROW_PCI_DEVICE, FILE_READ, "class", sysfs_class, .value = MODEL_PCI_CLASS},
        [ROW_PCI_NUMA_NODE] = {ROW_PCI_DEVICE, FILE_READ, "numa_node", .fixed = "-1\n"},
        [ROW_PCI_REVISION] = {ROW_PCI_DEVICE, FILE_READ, "revision", sysfs_revision, .value = MODEL_PCI_REVISION},
        [ROW_PCI_SUBSYSTEM_VENDOR] = {ROW_PCI_DEVICE, FILE_READ, "subsystem_vendor", sysfs_id,
                                      .value = MODEL_PCI_VENDOR},
        [ROW_PCI_SUBSYSTEM_DEVICE] = {ROW_PCI_DEVICE, FILE_READ, "subsystem_device", sysfs_id,
                                      .value = MODEL_PCI_SUBSYSTEM},
        [ROW_PCI_IRQ] = {ROW_PCI_DEVICE, FILE_READ, "irq", sysfs_pci_irq},
        [ROW_PCI_RESOURCE] = {ROW_PCI_DEVICE, FILE_READ, "resource", sysfs_pci_resource},
        [ROW_PCI_CONFIG] = {ROW_PCI_DEVICE, FILE_READ, "config", sysfs_pci_config},
        [ROW_PCI_RESET] = {ROW_PCI_DEVICE, FILE_WRITE, "reset", .fixed = ""},
        [ROW_PCI_REMOVE] = {ROW_PCI_DEVICE, FILE_WRITE, "remove", .fixed = ""},
        [ROW_PCI_DRIVER] = {ROW_PCI_DEVICE, LINK, "driver", .fixed = "../../../drivers/nvidia", .shown = is_linked},
        [ROW_PCI_MSI_IRQS] = {ROW_PCI_DEVICE, FOLDER, "msi_irqs", NULL, had_interrupts},
        [ROW_PCI_MSI_IRQ] = {ROW_PCI_MSI_IRQS, FILE_READ, NULL, .fixed = "msi\n", .shown = has_interrupts,
                             .gpu_name = name_by_interrupt},
        [ROW_PCI_DRIVERS] = {ROW_SYS_PCI, FOLDER, "drivers"},
        [ROW_PCI_DRIVERS_NVIDIA] = {ROW_PCI_DRIVERS, FOLDER, "nvidia"},
        [ROW_DRIVER_BIND] = {ROW_PCI_DRIVERS_NVIDIA, FILE_WRITE, "bind", .fixed = ""},
        [ROW_DRIVER_UNBIND] = {ROW_PCI_DRIVERS_NVIDIA, FILE_WRITE, "unbind", .fixed = ""},
        [ROW_PCI_BOUND] = {ROW_PCI_DRIVERS_NVIDIA, LINK, NULL, sysfs_link_bound, is_linked, name_by_address},
        [ROW_PCI_RESCAN] = {ROW_SYS_PCI, FILE_WRITE, "rescan", .fixed = ""},
        [ROW_SYS_DEVICES] = {ROW_SYS, FOLDER, "devices"},
        [ROW_SYS_SYSTEM] = {ROW_SYS_DEVICES, FOLDER, "system"},
        [ROW_SYS_MEMORY] = {ROW_SYS_SYSTEM, FOLDER, "memory"},
        [ROW_MEMORY_BLOCK_SIZE] = {ROW_SYS_MEMORY, FILE_READ, "block_size_bytes", sysfs_memory_block_size},
        [ROW_MEMORY_AUTO_ONLINE] = {ROW_SYS_MEMORY, FILE_READ, "auto_online_blocks", .fixed = "online_movable\n"},
        [ROW_MEMORY_PROBE] = {ROW_SYS_MEMORY, FILE_WRITE, "probe", .fixed = ""},
        [ROW_MEMORY_BLOCK] = {ROW_SYS_MEMORY, FOLDER, NULL}, /* memory131072, ...: list_blocks() */
        [ROW_BLOCK_STATE] = {ROW_MEMORY_BLOCK, FILE_CHANGE, "state", sysfs_block_state},
        [ROW_BLOCK_VALID_ZONES] = {ROW_MEMORY_BLOCK, FILE_READ, "valid_zones", sysfs_block_valid_zones},

        [ROW_RUN] = {ROW_ROOT, S_IFDIR | 0755, "run"}, /* a real folder is mounted over it: mount.h */
        [ROW_VAR] = {ROW_ROOT, FOLDER, "var"},
        [ROW_VAR_RUN] = {ROW_VAR, LINK, "run", .fixed = "../run"},
};
