#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Finds the driver's last line about a GPU in the kernel log that has an Xid, or the reason why it did not initialise.
 * /dev/kmsg has a line for each record: "priority,sequence,microseconds,flags;text".
 */

#include <stdint.h>

#include "base/locations.h"
#include "gpu/pci.h"

struct kernel_log_line {
        char text[256];
        uint64_t realtime_usec; /* approximate: the log's clock does not count sleep */
};

/* Returns 0; -ENOENT: no such line, or no log; -EACCES, -EPERM: no permission; or other negative errno. */
int kernel_log_find(const struct locations *locations, const struct pci_address *address,
                    struct kernel_log_line *ret_line);
