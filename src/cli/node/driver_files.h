#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Reads the driver's files about each GPU (gpu/inventory.h) with a time limit. While some GPU hangs in its
 * initialisation, a read of `power` may wait as long; with driver 535, also a read of `information`. After one read
 * that hangs, the others are left out, since they would wait too.
 */

#include "base/locations.h"
#include "gpu/inventory.h"
#include "rpc/holdfast.h"

/*
 * As inventory_read(). If reads hang, GPUs are in the list with their address alone: *ret_n_left is their number,
 * *ret_hanging the first of them.
 */
int driver_files_read(const struct locations *locations, struct gpu_info **ret_gpus, size_t *ret_n, size_t *ret_n_left,
                      struct pci_address *ret_hanging);

/* Reads the given GPUs' files again. GPUs whose file cannot be read stay as they are. */
void driver_files_read_gpus(const struct locations *locations, struct gpu_info *gpus, size_t n);

/* Sets initialised[i] for each address; HF_UNKNOWN if the driver does not answer in time. */
void driver_files_read_initialised(const struct locations *locations, const struct pci_address *addresses, size_t n,
                                   enum hf_tristate *initialised);
