#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * GPU memory that is a NUMA node of the system (coherent links: POWER9, Grace). On Grace the kernel module brings it
 * online itself (use_auto_online), but needs the memory block size before the first open. On POWER9 user space must
 * bring it online. Sources: kernel-open/nvidia/nv.c (validate_numa_start_state, NV_ESC_SYS_PARAMS, NV_ESC_NUMA_INFO).
 *
 *      the driver's status, as user space sets it:
 *
 *      OFFLINE ---> ONLINE_IN_PROGRESS --blocks, bad pages--> ONLINE
 *                              \--failed, blocks offline again--> ONLINE_FAILED
 *      ONLINE ---> OFFLINE_IN_PROGRESS --blocks--> OFFLINE
 *                              \--failed (pages in use), blocks online again--> OFFLINE_FAILED
 *
 * After either failure both directions can be tried again.
 */

#include "base/locations.h"
#include "gpu/failure.h"
#include "gpu/pci.h"

/* Whether the GPU has such memory: its /proc directory contains numa_status. */
bool numa_is_present(const struct locations *locations, const struct pci_address *address);

/*
 * Call this before an open. Tells the driver the system's memory block size (NV_ESC_SYS_PARAMS); without it the first
 * open of a GPU with NUMA memory fails with EINVAL. Needs no privilege, may be repeated, and does nothing for other
 * GPUs. Errors are logged.
 */
void numa_prepare(const struct locations *locations, const struct pci_address *address);

/*
 * Brings the GPU's memory online or offline. device_fd is the GPU's open descriptor, or -1. Returns 0 if the memory is
 * in that state, if there is no such memory, or if the kernel module does it; or negative errno, with the reason in
 * ret_failure. May sleep.
 *
 * If user space must do it, this needs root and CAP_SYS_ADMIN; otherwise it fails with -EPERM before it changes
 * anything (docs/decisions/0002-numa-as-root.md). To go offline, our descriptor must be the only open one of the GPU;
 * otherwise it fails with -EBUSY.
 */
int numa_set(const struct locations *locations, const struct pci_address *address, int device_fd, bool online,
             struct gpu_failure *ret_failure);

/*
 * Call this before a close that may be the GPU's last. The driver cannot take back memory that the system uses, so if
 * user space manages the memory, it goes offline first. Returns 0 if the GPU may be closed (also if the kernel module
 * manages the memory, or the driver does not report it); negative errno, with the reason in ret_failure, if the GPU
 * must stay open. May sleep.
 */
int numa_release(const struct locations *locations, const struct pci_address *address, int device_fd,
                 struct gpu_failure *ret_failure);
