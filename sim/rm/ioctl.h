#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The driver's ioctls: decodes a command's number and bytes, calls the model or RM, and encodes the result. It does not
 * depend on FUSE, so any front that serves device nodes can use it. Rules and layouts: kernel-open/nvidia/nv.c
 * (nvidia_ioctl, nv_validate_ioctls), kernel-open/nvidia-uvm/uvm_ioctl.h.
 */

#include <stddef.h>
#include <stdint.h>

#include "sim/model/model.h"
#include "sim/rm/rm.h"

/* One open file of a device node. */
struct ioctl_file {
        struct model_file *model_file;
        struct rm_file rm;
        bool registered; /* REGISTER_FD works only once */
};

/*
 * One call. data contains the argument's _IOC_SIZE(command) bytes, in and out, also out if the call fails. For commands
 * with inner pointers, and for UVM's, which have no size, the caller's memory is read and written.
 */
struct ioctl_call {
        struct ioctl_file *file;
        struct model_caller caller;
        struct model_wait *wait;
        uint32_t command;
        uint64_t argument; /* the third argument of ioctl(2) */
        void *data;
        size_t size_bytes;
};

/* Sleeps. Returns 0 or the driver's negative errno. */
int ioctl_run(struct ioctl_call *call);
