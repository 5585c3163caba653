#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The driver's files about each GPU (gpu/inventory.h), read with a time limit: a driver may let a reader wait for as
 * long as some GPU hangs in its initialisation (535 does for `information`, all do for `power`). One read that hangs is
 * enough: the next would wait for the same.
 */

#include "base/locations.h"
#include "gpu/inventory.h"
#include "rpc/holdfast.h"

/*
 * As inventory_read(). A GPU that the driver did not tell of in time is in the list with its address alone. *ret_n_left
 * says how many those are, *ret_hanging which is the first.
 */
int driver_files_read(const struct locations *locations, struct gpu_info **ret_gpus, size_t *ret_n, size_t *ret_n_left,
                      struct pci_address *ret_hanging);

/* Reads the given GPUs' files afresh, as far as that can be done: the others are left as they are. */
void driver_files_read_gpus(const struct locations *locations, struct gpu_info *gpus, size_t n);

/* Sets initialised[i] for each GPU of addresses, HF_UNKNOWN where the driver does not tell it (in time). */
void driver_files_read_initialised(const struct locations *locations, const struct pci_address *addresses, size_t n,
                                   enum hf_tristate *initialised);
