/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/backend.h"

#include "base/text.h"

static const struct gpu_ops *const backends[] = {
        &gpu_kernel_ops,
        &gpu_nvcfg_ops,
};

const struct gpu_ops *gpu_ops_find(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
                if (text_equal(backends[i]->name, name))
                        return backends[i];
        return NULL;
}
