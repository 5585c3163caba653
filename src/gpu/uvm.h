#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * UVM persistence by ioctl: a descriptor of /dev/nvidia-uvm with one GPU registered keeps UVM's state of that GPU. The
 * calling process must have the GPU's own node open (otherwise NV_ERR_INSUFFICIENT_PERMISSIONS). One descriptor per
 * GPU: GPUs with and without coherent memory cannot share one. kernel-open/nvidia-uvm/uvm_gpu.c, uvm_api_register_gpu.
 */

#include <stdint.h>

#include "gpu/failure.h"

/*
 * Registers the GPU with this UUID ("GPU-...") through a new descriptor of the node at path. Sleeps. Returns 0;
 * -EAGAIN when the NVLink fabric is not ready yet; negative errno, with the reason in ret_failure.
 */
int uvm_register(const char *path, const char *uuid, int *ret_fd, struct gpu_failure *ret_failure);

/*
 * Unregisters the GPU. Closing the descriptor does that too, but only when no copy of it is left. A failure has no
 * consequence but that.
 */
void uvm_unregister(int fd, const char *uuid);

/* "GPU-" and 32 hexadecimal digits with dashes, as 16 bytes in printed order. Returns 0 or -EINVAL. */
int uvm_uuid_parse(const char *uuid, uint8_t ret_bytes[static 16]);
