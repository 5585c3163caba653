#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The CUSE front: the device files (device.h) once more, as real character devices in /dev: nvidiactl 195:255, nvidiaN
 * 195:N, nvidia-uvm with a major of the kernel's choice. So what only concerns devices meets something real: device
 * rules of control groups, modes and owners of nodes, a close(2) that returns when the driver is done.
 *
 * It stands beside the mount, which has the texts of /proc and /sys. There is a node for every minor that can ever be,
 * whether its GPU is there or not, as the driver's nodes stay when GPUs go.
 */

#include "sim/fronts/device.h"

struct cuse_front;

/*
 * Makes the devices and starts to serve them; n_gpus is how many GPUs there may be. Returns 0; -ENOENT or what else
 * opening /dev/cuse gives; -EBUSY when another driver has the numbers; or negative errno.
 */
int cuse_front_start(struct cuse_front **ret_front, struct device_front *devices, size_t n_gpus);

/*
 * The end, in two steps since workers answer through the sessions: stop takes no request any more; free, when the
 * device files are gone (fuse_front_stop()), takes the devices away. Files still open give ENOTCONN from then on.
 */
void cuse_front_stop(struct cuse_front *front);
void cuse_front_free(struct cuse_front *front);
