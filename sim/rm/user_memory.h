#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Accesses the memory of a process that is inside one of our calls: if an ioctl's argument contains a pointer, the
 * driver copies from and to user space, and so must the simulator. Needs CAP_SYS_PTRACE over the process.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Copies all bytes. Returns 0, -EFAULT if the process has no such memory, or negative errno. */
int user_memory_read(pid_t process, uint64_t address, void *buffer, size_t size);
int user_memory_write(pid_t process, uint64_t address, const void *buffer, size_t size);
