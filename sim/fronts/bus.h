#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Writes to sysfs that sleep: an unbind and a removal wait for the GPU's users without a time limit. Each write runs on
 * a worker, so that the mount continues to serve other requests.
 */

#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>

#include "sim/fronts/workers.h"
#include "sim/tree/tree.h"

/* Replies to the request, now or when the model is done. On success, the reply says that size bytes were written. */
void bus_write(struct workers *workers, struct model *model, fuse_req_t request, const struct tree_bus_write *write,
               size_t size);
