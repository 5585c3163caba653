#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The texts of the simulated /sys: the driver's module, the GPUs on the PCI bus, and their memory. Numbers of the bus
 * are those of an H100 (model.h).
 */

#include "sim/tree/procfs.h"

enum { SYSFS_CONFIG_SIZE = 256 };

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
void sysfs_pci_numa_node(FILE *out, const struct procfs_source *source);
void sysfs_pci_msi_irq(FILE *out, const struct procfs_source *source);
void sysfs_memory_block_size(FILE *out, const struct procfs_source *source);
void sysfs_memory_auto_online(FILE *out, const struct procfs_source *source);
void sysfs_nothing(FILE *out, const struct procfs_source *source); /* of a file that is only written */
void sysfs_block_state(FILE *out, const struct procfs_source *source);
void sysfs_block_valid_zones(FILE *out, const struct procfs_source *source);
