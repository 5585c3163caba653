/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "tests/fuzz/input_file.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

const char *input_file(const uint8_t *bytes, size_t size) {
        static char path[32];
        static int fd = -1;

        if (fd < 0) {
                fd = memfd_create("input", MFD_CLOEXEC);
                fuzz_require(fd >= 0);
                (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        }
        fuzz_require(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
        return path;
}
