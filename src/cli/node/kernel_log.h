#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What the driver said of one GPU in the kernel log: its last line with the reason why it did not initialise, or with
 * an Xid. Read from /dev/kmsg, one record a line: "priority,sequence,microseconds,flags;text".
 */

#include <stdint.h>

#include "base/locations.h"
#include "gpu/pci.h"

struct kernel_log_line {
        char text[256];
        uint64_t realtime_usec; /* about: its clock is another one that does not count sleep */
};

/* Returns 0; -ENOENT: nothing is said of it, or there is no log; -EACCES, -EPERM: not for this user; or other negative
 * errno. */
int kernel_log_find(const struct locations *locations, const struct pci_address *address,
                    struct kernel_log_line *ret_line);
