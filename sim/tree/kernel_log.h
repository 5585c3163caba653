#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The kernel log as /dev/kmsg below the root: a FIFO with records as the kernel has them. It has only those lines of
 * the driver that programs react to. A record that one reader reads is gone for other readers.
 */

#include "sim/model/model.h"

/* Its place in the run folder, to which /dev/kmsg is a link. */
#define KERNEL_LOG_FIFO "kmsg"

struct kernel_log;

/* run_fd is a descriptor of the root's run folder, and stays the caller's. Returns 0 or negative errno. */
int kernel_log_new(struct kernel_log **ret_log, struct model *model, int run_fd);
/* NULL is nothing. */
void kernel_log_free(struct kernel_log *log);
