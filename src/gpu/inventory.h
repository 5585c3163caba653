#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The list of GPUs, read from /proc/driver/nvidia/gpus/ (one directory per GPU, named by PCI address). Reading it
 * initialises nothing and needs no device node.
 */

#include "base/locations.h"
#include "gpu/pci.h"

enum {
        GPU_UUID_SIZE = 64,
        GPU_MODEL_SIZE = 96,
        GPU_MINOR_UNKNOWN = -1,
};

/* One GPU's `information` file. */
struct gpu_info {
        struct pci_address address;
        int minor;                  /* N of /dev/nvidiaN, or GPU_MINOR_UNKNOWN */
        char uuid[GPU_UUID_SIZE];   /* "GPU-..."; empty when the driver does not tell it */
        char model[GPU_MODEL_SIZE]; /* marketing name; empty likewise */
        char video_bios[32];        /* "??.??.??.??.??" until the first initialisation */
        char firmware[32];          /* "N/A" until the first initialisation */
        bool excluded;              /* the administrator took it from the driver: an open gives EPERM */
        bool lacks_numa;            /* it certainly has no memory that is a NUMA node (gpu/numa.h) */
};

/*
 * Reads all GPUs, sorted by PCI address, into an array that the caller frees. A GPU whose `information` cannot be read
 * is listed with its address only, which is its directory's name. Returns 0 (with *ret_n 0 when there is no GPU),
 * -ENOENT when there is no /proc/driver/nvidia (the driver is not loaded), or negative errno.
 */
int inventory_read(const struct locations *locations, struct gpu_info **ret_gpus, size_t *ret_n);

/* The same, with nothing of them but their addresses: the driver is not asked about each. */
int inventory_read_addresses(const struct locations *locations, struct gpu_info **ret_gpus, size_t *ret_n);

/* Reads one GPU's information afresh. Returns 0, -ENODEV when it is not there (any more), or negative errno. */
int inventory_read_gpu(const struct locations *locations, const struct pci_address *address, struct gpu_info *ret_gpu);

/* Parses the text of an `information` file into info (which keeps its address). Lines that are missing leave the field
 * empty or unknown. */
void gpu_info_parse(char *text, struct gpu_info *info);

/* The driver's version from /proc/driver/nvidia/version ("595.45.04"). Returns 0, -ENOENT when not loaded, -EBADMSG. */
int inventory_driver_version(const struct locations *locations, char *buffer, size_t size);

/*
 * Whether the driver is known to be older than that version; false also when its version cannot be read. A driver can
 * be replaced at any time, so this reads the file anew.
 */
bool inventory_driver_is_before(const struct locations *locations, unsigned major, unsigned minor, unsigned patch);
