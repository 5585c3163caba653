#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * GPU descriptors that outlive this process: kept in the service manager's descriptor store under the GPU's name
 * ("gpu-0000.17.00.0", "uvm-0000.17.00.0"; a name may not have a colon), and handed to the next process at its start.
 */

#include "gpu/backend.h"

/* The keeper for the backend. */
extern struct gpu_keeper store_keeper;

/* Writes the name of a stored descriptor. */
void store_name(char *buffer, size_t size, const char *kind, const struct pci_address *address);

/* Whether the name is that of a descriptor of this kind; then whose. */
bool store_name_parse(const char *name, const char *kind, struct pci_address *ret_address);
