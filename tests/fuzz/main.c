/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Runs a fuzz target once for each file in a folder, so the corpus is an ordinary test. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_MAX = 1024 * 1024 };

static void close_folder(DIR **folder) {
        if (*folder)
                (void)closedir(*folder);
}

/* Returns the size, or negative errno. */
static ssize_t read_input(DIR *folder, const char *name, uint8_t **ret_bytes) {
        CLEANUP(fd_done) int fd = openat(dirfd(folder), name, O_RDONLY | O_CLOEXEC);
        CLEANUP(free_ptr) uint8_t *bytes = malloc(INPUT_MAX);
        ssize_t size;

        if (fd < 0)
                return -errno;
        if (!bytes)
                return -ENOMEM;
        size = read(fd, bytes, INPUT_MAX);
        if (size < 0)
                return -errno;
        if (size == INPUT_MAX)
                return -EFBIG;
        *ret_bytes = take_ptr(bytes);
        return size;
}

static int run_input(DIR *folder, const char *name) {
        CLEANUP(free_ptr) uint8_t *bytes = NULL, *exact = NULL;
        ssize_t size = read_input(folder, name, &bytes);

        if (size < 0) {
                fprintf(stderr, "cannot read %s: %s\n", name, strerror((int)-size));
                return -1;
        }
        /* In a block of exactly this size the address sanitizer detects a read beyond it. */
        exact = malloc((size_t)size + (size == 0));
        if (!exact)
                return -1;
        memcpy(exact, bytes, (size_t)size);
        return LLVMFuzzerTestOneInput(exact, (size_t)size);
}

int main(int argc, char **argv) {
        CLEANUP(close_folder) DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
        const struct dirent *entry;
        int count = 0;

        if (!folder) {
                fprintf(stderr, "usage: %s FOLDER (of inputs, each a file)\n", argv[0]);
                return 2;
        }
        while ((entry = readdir(folder))) {
                if (entry->d_name[0] == '.')
                        continue;
                if (run_input(folder, entry->d_name) < 0)
                        return 1;
                count++;
        }
        printf("%d inputs\n", count);
        return count > 0 ? 0 : 1; /* an empty corpus tests nothing */
}
