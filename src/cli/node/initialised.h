#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Whether a GPU is initialised, and what keeps it so, as files of the driver and of the kernel show it. */

#include <stdbool.h>

#include "base/locations.h"
#include "gpu/inventory.h"

/*
 * Whether the GPU is initialised now, by whomever: its `power` file tells. Never initialises anything, but waits, for
 * seconds or more, while the driver initialises another GPU: ask only when no daemon can be asked. Returns 0, -ENODEV,
 * or other negative errno (-EBADMSG when the file does not say).
 */
int initialised_read(const struct locations *locations, const struct pci_address *address, bool *ret_initialised);

/*
 * The same without any wait, from sysfs: the driver has the GPU's message-signalled interrupts on from the first open
 * to the teardown (nv.c, nv_start_device and nv_shutdown_adapter). Each is a file in msi_irqs; the folder itself stays,
 * empty, until the driver is unbound. True means initialised, or being initialised; false also when the driver was told
 * to do without MSI.
 */
bool initialised_has_interrupts(const struct locations *locations, const struct pci_address *address);

/* Whether somebody has the GPU registered with UVM, which keeps it initialised like an open node. */
bool initialised_has_uvm(const struct locations *locations, const char *uuid);
