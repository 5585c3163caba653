#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The memory of a process that is inside one of our calls: where an ioctl's argument holds a pointer, the driver
 * copies from and to user space itself, and so must we. Needs CAP_SYS_PTRACE over the process.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* All of it or an error: 0, -EFAULT where the process has no such memory, or negative errno. */
int user_memory_read(pid_t process, uint64_t address, void *buffer, size_t size);
int user_memory_write(pid_t process, uint64_t address, const void *buffer, size_t size);
