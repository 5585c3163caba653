#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Whether a GPU is initialised, and what keeps it so, from files of the driver and of the kernel. */

#include <stdbool.h>

#include "base/locations.h"
#include "gpu/inventory.h"

/*
 * Reads from the GPU's `power` file whether it is initialised. Initialises nothing, but waits, for seconds or more,
 * while the driver initialises another GPU: call it only if there is no daemon, or it opens and closes no GPU. Returns
 * 0, -ENODEV, -EBADMSG if the file does not say, or other negative errno.
 */
int initialised_read(const struct locations *locations, const struct pci_address *address, bool *ret_initialised);

/*
 * The same without any wait, from sysfs: the driver enables the GPU's message-signalled interrupts from the first open
 * to the teardown (nv.c, nv_start_device and nv_shutdown_adapter). Each is a file in msi_irqs; the empty folder stays
 * until the driver is unbound. True means initialised, or being initialised; false also if the driver does not use MSI.
 */
bool initialised_has_interrupts(const struct locations *locations, const struct pci_address *address);

/* Whether the GPU is registered with UVM, which keeps it initialised like an open node. */
bool initialised_has_uvm(const struct locations *locations, const char *uuid);
