#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * GPU memory that is a NUMA node of the system (coherent links: POWER9, Grace). On Grace the kernel module onlines it
 * itself (use_auto_online) and only needs to be told the memory block size before the first open; on POWER9 user space
 * has to. Sources: kernel-open/nvidia/nv.c (validate_numa_start_state, NV_ESC_SYS_PARAMS, NV_ESC_NUMA_INFO).
 *
 *      the driver's status, as user space tells it:
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

/* Whether the GPU has such memory: its /proc directory has numa_status. */
bool numa_is_present(const struct locations *locations, const struct pci_address *address);

/*
 * Before an open: tells the driver the system's memory block size (NV_ESC_SYS_PARAMS), without which the first open of
 * a GPU with NUMA memory fails with EINVAL. Needs no privilege; the same value again is fine. Does nothing for other
 * GPUs.
 */
void numa_prepare(const struct locations *locations, const struct pci_address *address);

/*
 * Brings the GPU's memory on- or offline. Returns 0 when it is as wanted, also because there is no such memory or the
 * kernel sees to it. device_fd is the GPU's open descriptor, or -1. Sleeps.
 *
 * Where it is left to us, this needs root and CAP_SYS_ADMIN, and is refused with -EPERM before anything is touched
 * (docs/decisions/0002-numa-as-root.md). Offlining needs ours to be the only descriptor of the GPU that is open:
 * -EBUSY otherwise.
 */
int numa_set(const struct locations *locations, const struct pci_address *address, int device_fd, bool online,
             struct gpu_failure *ret_failure);

/*
 * Before a close that may be the GPU's last: the driver cannot take memory back that the system uses, so where on- and
 * offlining is ours it goes offline first. Returns 0 when the GPU may be closed, also because its memory is not ours
 * to see to or the driver does not tell; negative errno when the GPU must stay open. Sleeps.
 */
int numa_release(const struct locations *locations, const struct pci_address *address, int device_fd,
                 struct gpu_failure *ret_failure);
