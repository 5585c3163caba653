/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Names of GPUs on the command line: valid ones are resolved, others refused with an error message. */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/args/ids.h"
#include "tests/fuzz/fuzz.h"

enum { ERROR_SIZE = 256 };

static struct snapshot_gpu gpus[] = {
        {.index = 0, .info = {.address = {.bus = 0x17}, .uuid = "GPU-00000000-0000-0000-0000-000000000017"}},
        {.index = 1, .info = {.address = {.bus = 0x2a}, .uuid = "GPU-00000000-0000-0000-0000-00000000002a"}},
        {.index = 2, .info = {.address = {.domain = 0x10000, .bus = 1}, .excluded = true}},
};

static void resolve(const struct ids *ids) {
        struct snapshot snapshot = {.n_gpus = ARRAY_SIZE(gpus), .gpus = gpus};
        char error[ERROR_SIZE] = "";
        int r = ids_select(ids, &snapshot, error, sizeof(error));

        fuzz_require(r == 0 ? snapshot_next(&snapshot, NULL, true) != NULL
                            : (r == -ENODEV || r == -EINVAL) && error[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        CLEANUP(free_ptr) char *list = malloc(size + 1);
        CLEANUP(free_ptr) struct ids *ids = calloc(1, sizeof(*ids));
        char error[ERROR_SIZE] = "";
        int r;

        fuzz_require(list && ids);
        memcpy(list, bytes, size);
        list[size] = '\0';
        r = ids_add(ids, list, error, sizeof(error));
        fuzz_require(ids->n <= IDS_MAX);
        if (r == 0)
                resolve(ids);
        else
                fuzz_require(r == -EINVAL && error[0] != '\0');
        return 0;
}
