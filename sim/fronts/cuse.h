#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The CUSE front: serves the device files (device.h) also as real character devices in /dev: nvidiactl 195:255, nvidiaN
 * 195:N, nvidia-uvm with a major number that the kernel chooses. It allows tests of what only real devices have: device
 * rules of control groups, modes and owners of nodes, a close(2) that returns when the driver is done.
 *
 * It runs in addition to the mount, which serves the texts of /proc and /sys. Every possible minor has a node, also
 * without a GPU, since the driver's nodes stay when a GPU is removed.
 */

#include "sim/fronts/device.h"

struct cuse_front;

/*
 * Creates the devices and starts to serve them; n_gpus is the maximum number of GPUs. Returns 0; -ENOENT or another
 * error of opening /dev/cuse; -EBUSY if another driver has the numbers; or negative errno.
 */
int cuse_front_start(struct cuse_front **ret_front, struct device_front *devices, size_t n_gpus);

/*
 * Ends the front in two steps, because workers answer through the sessions. Stop accepts no further requests. Free
 * removes the devices; call it when the device files are gone (fuse_front_stop()). Open files then return ENOTCONN.
 */
void cuse_front_stop(struct cuse_front *front);
void cuse_front_free(struct cuse_front *front);
