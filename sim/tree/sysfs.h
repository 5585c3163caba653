#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The texts of the simulated /sys: the driver's module, the GPUs on the PCI bus, and their memory. Numbers of the bus
 * are those of an H100 (model.h).
 */

#include "sim/tree/procfs.h"

enum { SYSFS_CONFIG_SIZE = 256 };

/* The folder below sys/bus/pci with the places of the devices. The kernel has them in sys/devices, where nothing can be
 * mounted for the simulator's sake. */
#define SYSFS_PLACES "simulated"

/* Each GPU has a bridge of its own above it: its address, which is invented. */
struct pci_address sysfs_bridge_of(const struct pci_address *gpu);

void sysfs_module_initstate(FILE *out, const struct procfs_source *source);
void sysfs_module_version(FILE *out, const struct procfs_source *source);
void sysfs_module_refcnt(FILE *out, const struct procfs_source *source);
void sysfs_pci_vendor(FILE *out, const struct procfs_source *source);
void sysfs_pci_device(FILE *out, const struct procfs_source *source);
void sysfs_pci_class(FILE *out, const struct procfs_source *source);
void sysfs_pci_revision(FILE *out, const struct procfs_source *source);
void sysfs_pci_subsystem_vendor(FILE *out, const struct procfs_source *source);
void sysfs_pci_subsystem_device(FILE *out, const struct procfs_source *source);
void sysfs_pci_irq(FILE *out, const struct procfs_source *source);
void sysfs_pci_resource(FILE *out, const struct procfs_source *source);
void sysfs_pci_config(FILE *out, const struct procfs_source *source); /* bytes */
void sysfs_bridge_vendor(FILE *out, const struct procfs_source *source);
void sysfs_bridge_device(FILE *out, const struct procfs_source *source);
void sysfs_bridge_class(FILE *out, const struct procfs_source *source);
void sysfs_bridge_config(FILE *out, const struct procfs_source *source); /* bytes */
void sysfs_link_device(FILE *out, const struct procfs_source *source);   /* in devices/, to the GPU's place */
void sysfs_link_bridge(FILE *out, const struct procfs_source *source);
void sysfs_link_bound(FILE *out, const struct procfs_source *source);  /* in drivers/nvidia/ */
void sysfs_link_driver(FILE *out, const struct procfs_source *source); /* in the GPU's place */
void sysfs_pci_numa_node(FILE *out, const struct procfs_source *source);
void sysfs_pci_msi_irq(FILE *out, const struct procfs_source *source);
void sysfs_memory_block_size(FILE *out, const struct procfs_source *source);
void sysfs_memory_auto_online(FILE *out, const struct procfs_source *source);
void sysfs_nothing(FILE *out, const struct procfs_source *source); /* of a file that is only written */
void sysfs_block_state(FILE *out, const struct procfs_source *source);
void sysfs_block_valid_zones(FILE *out, const struct procfs_source *source);
