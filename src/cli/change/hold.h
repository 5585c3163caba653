#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Keeps GPUs initialised while one daemon replaces another: the driver tears a GPU down only at its last close, and
 * this process has it open too. Opens only GPUs that are initialised, which changes nothing and does not wait.
 */

#include "base/locations.h"
#include "cli/node/snapshot.h"

struct hold {
        int *fds; /* by row of the snapshot; -1: not held */
        size_t n;
        size_t n_held;
};

/*
 * Opens every initialised GPU of the snapshot, which was taken with SNAPSHOT_MODE. Returns 0; -ENOMEM; or another
 * negative errno if one GPU cannot be opened: *ret_row is its row, and the others are open.
 */
int hold_open(struct hold *hold, const struct snapshot *snapshot, const struct locations *locations, size_t *ret_row);

/* Closes them. For CLEANUP(hold_done). */
void hold_done(struct hold *hold);
