#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The daemon's share of a snapshot: only cli/node/snapshot.c calls it. */

#include "base/locations.h"
#include "cli/node/snapshot.h"

/*
 * Asks the daemon there about every GPU: rows that only it knows are added. Returns 0, also when there is no
 * daemon or no answer (the snapshot says so), or -ENOMEM.
 */
int snapshot_ask_daemon(struct snapshot *snapshot, const struct locations *locations, uint64_t timeout_usec);

/* Finds the row of a GPU, or adds one. The pointer is good until the next call. Returns 0 or -ENOMEM. */
int snapshot_get_row(struct snapshot *snapshot, const struct pci_address *address, struct snapshot_gpu **ret_row);
