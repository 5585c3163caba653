#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The kernel log, as /dev/kmsg below the root: a FIFO with records in the kernel's format. It contains only lines of
 * the driver to which programs react. Unlike in the kernel, each record reaches only one reader.
 */

#include "sim/model/model.h"

/* The FIFO's name in the run folder. /dev/kmsg is a link to it. */
#define KERNEL_LOG_FIFO "kmsg"

struct kernel_log;

/* run_fd is a descriptor of the root's run folder, and stays the caller's. Returns 0 or negative errno. */
int kernel_log_new(struct kernel_log **ret_log, struct model *model, int run_fd);
/* NULL is ignored. */
void kernel_log_free(struct kernel_log *log);
