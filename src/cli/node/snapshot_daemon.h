#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The daemon's part of a snapshot, for cli/node/snapshot.c only. */

#include "base/locations.h"
#include "cli/node/snapshot.h"

/*
 * Asks the daemon about every GPU, and adds rows that only the daemon knows. Returns 0, also without a daemon or an
 * answer, or -ENOMEM.
 */
int snapshot_ask_daemon(struct snapshot *snapshot, const struct locations *locations, uint64_t timeout_usec);

/* Finds the row of a GPU, or adds one. The pointer is valid until the next call. Returns 0 or -ENOMEM. */
int snapshot_get_row(struct snapshot *snapshot, const struct pci_address *address, struct snapshot_gpu **ret_row);
