/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/rm/user_memory.h"

#include <errno.h>
#include <sys/uio.h>

static int outcome(ssize_t transferred, size_t size) {
        if (transferred < 0)
                return -errno;
        return (size_t)transferred == size ? 0 : -EFAULT; /* the copy stops at the first missing page */
}

int user_memory_read(pid_t process, uint64_t address, void *buffer, size_t size) {
        struct iovec ours = {.iov_base = buffer, .iov_len = size};
        struct iovec theirs = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};

        return outcome(process_vm_readv(process, &ours, 1, &theirs, 1, 0), size);
}

int user_memory_write(pid_t process, uint64_t address, const void *buffer, size_t size) {
        struct iovec ours = {.iov_base = (void *)(uintptr_t)buffer, .iov_len = size};
        struct iovec theirs = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};

        return outcome(process_vm_writev(process, &ours, 1, &theirs, 1, 0), size);
}
