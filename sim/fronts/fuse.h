#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The FUSE front: the tree (tree.h) as a file system, its device files as the driver's (device.h). One thread takes the
 * kernel's requests and answers at once what never sleeps; every call that may sleep goes to a worker.
 */

#include "sim/model/model.h"

struct device_front;
struct fuse_front;

/* Mounts at root and starts to serve. Returns 0 or negative errno. */
int fuse_front_start(struct fuse_front **ret_front, struct model *model, const char *root);

/*
 * Aborts what is in flight and detaches the mount with all below it, also while files are open. Call model_stop()
 * before, so that no call sleeps on.
 */
void fuse_front_stop(struct fuse_front *front);

/* The device files, for another front to make nodes of, too. It has to end its requests before fuse_front_stop(). */
struct device_front *fuse_front_devices(const struct fuse_front *front);
