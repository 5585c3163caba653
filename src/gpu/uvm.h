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
 * Registers the GPU with this UUID ("GPU-...") through a new descriptor of the node at path. Sleeps. Returns 0; -EAGAIN
 * if the NVLink fabric is not ready yet; or other negative errno; the reason is in ret_failure.
 */
int uvm_register(const char *path, const char *uuid, int *ret_fd, struct gpu_failure *ret_failure);

/*
 * Unregisters the GPU. Closing the descriptor does that too, but only if no copy of it is left. Failures are ignored.
 */
void uvm_unregister(int fd, const char *uuid);

/* Parses "GPU-" and 32 hexadecimal digits with dashes into 16 bytes, in printed order. Returns 0 or -EINVAL. */
int uvm_uuid_parse(const char *uuid, uint8_t ret_bytes[static 16]);
