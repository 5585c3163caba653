#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The FUSE front: serves the tree (tree.h) as a file system, with its device files (device.h). One thread reads the
 * kernel's requests. It answers requests that never sleep, and passes calls that may sleep to workers.
 */

#include "sim/model/model.h"

struct device_front;
struct fuse_front;

/* Mounts at root and starts to serve. Returns 0 or negative errno. */
int fuse_front_start(struct fuse_front **ret_front, struct model *model, const char *root);

/*
 * Aborts the requests under way and detaches the mount with all mounts below it, also while files are open. Call
 * model_stop() first, which ends sleeping calls.
 */
void fuse_front_stop(struct fuse_front *front);

/* The device files, for another front that also serves them. It must end its requests before fuse_front_stop(). */
struct device_front *fuse_front_devices(const struct fuse_front *front);
