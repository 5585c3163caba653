#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Memory hotplug through sysfs: the system's memory is on- and offlined in blocks of one size, each a folder
 * /sys/devices/system/memory/memoryN, N being its physical address divided by that size (the kernel's
 * Documentation/admin-guide/mm/memory-hotplug.rst). GPU memory goes into the movable zone, or it could never be taken
 * offline again.
 *
 *      not there --probe--> offline --"online_movable"--> online (Movable)
 *                              ^-------"offline"------------/
 *
 * Everything is below root. Writing needs root's rights; both calls may sleep for long, as pages are moved.
 */

#include <stdint.h>

#include "base/locations.h"
#include "gpu/failure.h"

/* Physical addresses; both multiples of the block size, or the calls give -EINVAL. */
struct memory_range {
        uint64_t address;
        uint64_t size_bytes;
};

/* The size of a block. Returns 0 or negative errno; -ENOENT: this kernel has no memory hotplug. */
int memory_block_size(const struct locations *locations, uint64_t *ret_size_bytes);

/*
 * Onlines every block of the range, making those appear that are not there. All or none: a failure offlines them again.
 * -EOPNOTSUPP: something else had onlined a block outside the movable zone.
 */
int memory_blocks_online(const struct locations *locations, const struct memory_range *range,
                         struct gpu_failure *ret_failure);

/* Offlines every block of the range. All or none: a failure (-EBUSY: pages in use) onlines them again. */
int memory_blocks_offline(const struct locations *locations, const struct memory_range *range,
                          struct gpu_failure *ret_failure);

/* Takes one page out of use for good. Returns 0, also when it already is, or negative errno. */
int memory_page_retire(const struct locations *locations, uint64_t address);
