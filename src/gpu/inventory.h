#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The list of GPUs, read from /proc/driver/nvidia/gpus/ (one directory per GPU, named by PCI address). Reading it does
 * not initialise a GPU and needs no device node.
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
        char uuid[GPU_UUID_SIZE];   /* "GPU-..."; empty if the driver does not report it */
        char model[GPU_MODEL_SIZE]; /* marketing name; empty if the driver does not report it */
        char video_bios[32];        /* "??.??.??.??.??" until the first initialisation */
        bool excluded;              /* the administrator excluded it from the driver: an open fails with EPERM */
        bool lacks_numa;            /* true: it has no NUMA memory (gpu/numa.h); false: it has, or this is unknown */
};

/*
 * Reads all GPUs, sorted by PCI address, into an array that the caller frees. A GPU whose `information` cannot be read
 * is listed with only its address, which is the name of its directory. Returns 0 (with *ret_n 0 if there is no GPU),
 * -ENOENT if there is no /proc/driver/nvidia (the driver is not loaded), or other negative errno.
 */
int inventory_read(const struct locations *locations, struct gpu_info **ret_gpus, size_t *ret_n);

/* The same with only the addresses, without reading the files of each GPU. */
int inventory_read_addresses(const struct locations *locations, struct gpu_info **ret_gpus, size_t *ret_n);

/* Reads the information of one GPU. Returns 0, -ENODEV if the driver does not have it (any more), or negative errno. */
int inventory_read_gpu(const struct locations *locations, const struct pci_address *address, struct gpu_info *ret_gpu);

/*
 * Whether a driver is bound to the GPU, by its link in sysfs. The kernel removes this link at the begin of an unbind,
 * before the driver waits for users (drivers/base/dd.c, __device_release_driver). Never waits. Returns 1 or 0, or
 * negative errno if sysfs does not have the GPU.
 */
int inventory_is_bound(const struct locations *locations, const struct pci_address *address);

/*
 * Parses the text of an `information` file into info (which keeps its address). The field of a missing line is empty or
 * unknown. Changes text.
 */
void gpu_info_parse(char *text, struct gpu_info *info);

/*
 * Reads the driver's version from /proc/driver/nvidia/version ("595.45.04"). Returns 0, -ENOENT if no driver is loaded,
 * -EBADMSG if no version is found or it does not fit, or other negative errno.
 */
int inventory_driver_version(const struct locations *locations, char *buffer, size_t size);

/*
 * Whether the driver is older than that version; false also if its version cannot be read. Reads the file each time,
 * because the driver can be replaced at any time.
 */
bool inventory_driver_is_before(const struct locations *locations, unsigned major, unsigned minor, unsigned patch);
