#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The texts of the simulated /sys: the driver's module, the GPUs on the PCI bus, and their memory. The PCI ids are
 * those of an H100 (model.h).
 */

#include "sim/tree/procfs.h"

enum { SYSFS_CONFIG_SIZE = 256 };

/* Each GPU's bridge: a root port as emulated by QEMU. */
enum { SYSFS_BRIDGE_VENDOR = 0x1b36, SYSFS_BRIDGE_DEVICE = 0x000c, SYSFS_BRIDGE_CLASS = 0x060400 };

/* The folder below sys/bus/pci that contains the devices' real folders. In the kernel these are in sys/devices, over
 * which the simulator cannot mount. */
#define SYSFS_PLACES "simulated"

/* The address of a GPU's bridge, which is invented. */
struct pci_address sysfs_bridge_of(const struct pci_address *gpu);

void sysfs_module_version(FILE *out, const struct procfs_source *source);
void sysfs_module_refcnt(FILE *out, const struct procfs_source *source);
/* Prints a number of the device, chosen by the row's value. */
void sysfs_id(FILE *out, const struct procfs_source *source);
void sysfs_class(FILE *out, const struct procfs_source *source);
void sysfs_revision(FILE *out, const struct procfs_source *source);
void sysfs_pci_irq(FILE *out, const struct procfs_source *source);
void sysfs_pci_resource(FILE *out, const struct procfs_source *source);
void sysfs_pci_config(FILE *out, const struct procfs_source *source);    /* bytes */
void sysfs_bridge_config(FILE *out, const struct procfs_source *source); /* bytes */
void sysfs_link_device(FILE *out, const struct procfs_source *source);   /* in devices/, to the GPU's folder */
void sysfs_link_bridge(FILE *out, const struct procfs_source *source);
void sysfs_link_bound(FILE *out, const struct procfs_source *source); /* in drivers/nvidia/ */
void sysfs_memory_block_size(FILE *out, const struct procfs_source *source);
void sysfs_block_state(FILE *out, const struct procfs_source *source);
void sysfs_block_valid_zones(FILE *out, const struct procfs_source *source);
