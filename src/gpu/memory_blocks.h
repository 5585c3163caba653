#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Memory hotplug through sysfs. Memory goes online and offline in blocks of one size; each is a folder
 * /sys/devices/system/memory/memoryN, where N is its physical address divided by that size (the kernel's
 * Documentation/admin-guide/mm/memory-hotplug.rst). GPU memory must be in the movable zone, or it could never go
 * offline again.
 *
 *      missing ----probe--> offline --"online_movable"--> online (Movable)
 *                              ^-------"offline"------------/
 *
 * All paths are below the root directory in struct locations. Writing needs root. Going online or offline may sleep for
 * long, because pages are moved.
 */

#include <stdint.h>

#include "base/locations.h"
#include "gpu/failure.h"

/* Physical addresses. If they are not multiples of the block size, the calls fail with -EINVAL. */
struct memory_range {
        uint64_t address;
        uint64_t size_bytes;
};

/* Reads the size of a block. Returns 0 or negative errno; -ENOENT: this kernel has no memory hotplug. */
int memory_block_size(const struct locations *locations, uint64_t *ret_size_bytes);

/*
 * Brings every block of the range online; probes for missing ones first. If one fails, brings all of them offline
 * again. -EOPNOTSUPP: something else has brought a block online outside the movable zone.
 */
int memory_blocks_online(const struct locations *locations, const struct memory_range *range,
                         struct gpu_failure *ret_failure);

/* Brings every block of the range offline. If one fails (-EBUSY: pages in use), brings all of them online again. */
int memory_blocks_offline(const struct locations *locations, const struct memory_range *range,
                          struct gpu_failure *ret_failure);

/* Takes one page out of use permanently. Returns 0, also if it already is, or negative errno. */
int memory_page_retire(const struct locations *locations, uint64_t address);
