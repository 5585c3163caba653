#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * GPUs kept as they are while daemons change: the driver tears a GPU down at its last close, so for as long as this
 * has it open too, it makes no difference who lets go of it. Only GPUs that are initialised are opened: that neither
 * waits nor changes anything.
 */

#include "base/locations.h"
#include "cli/node/snapshot.h"

struct hold {
        int *fds; /* by row of the snapshot; -1: not held */
        size_t n;
        size_t n_held;
};

/*
 * Opens every GPU of the snapshot (taken with SNAPSHOT_MODE) that is initialised. Returns 0; -ENOMEM; or another
 * negative errno when one cannot be opened, with its row in *ret_row: the others are held all the same.
 */
int hold_open(struct hold *hold, const struct snapshot *snapshot, const struct locations *locations, size_t *ret_row);

/* Lets go. For CLEANUP(hold_done). */
void hold_done(struct hold *hold);
