/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "client/cuda.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

/* Types and numbers are those of the library's public interface (cuda.h). */
enum { CUDA_SUCCESS = 0 };

struct cuda {
        int (*init)(unsigned flags);
        int (*get_device)(int *ret_device, int ordinal);
        int (*retain_context)(void **ret_context, int device);
        int (*get_error_string)(int result, const char **ret_text);
};

static const struct {
        const char *name;
        size_t offset;
} symbols[] = {
        {"cuDeviceGet", offsetof(struct cuda, get_device)},
        {"cuDevicePrimaryCtxRetain", offsetof(struct cuda, retain_context)},
        {"cuGetErrorString", offsetof(struct cuda, get_error_string)},
        {"cuInit", offsetof(struct cuda, init)},
};

void cuda_done(struct cuda **cuda) {
        free(*cuda);
        *cuda = NULL;
}

int cuda_open(struct cuda **ret_cuda, const char *library, char *error, size_t error_size) {
        CLEANUP(cuda_done) struct cuda *cuda = calloc(1, sizeof(*cuda));
        void *handle;

        if (!cuda) {
                (void)text_copy(error, error_size, "out of memory");
                return -ENOMEM;
        }
        handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
                (void)text_format(error, error_size, "cannot load %s: %s", library, dlerror());
                return -ENOENT;
        }
        for (size_t i = 0; i < ARRAY_SIZE(symbols); i++) {
                void *symbol = dlsym(handle, symbols[i].name);

                if (!symbol) {
                        (void)text_format(error, error_size, "%s has no %s: it is not CUDA's library, or too old",
                                          library, symbols[i].name);
                        return -ENOENT;
                }
                memcpy((char *)cuda + symbols[i].offset, &symbol, sizeof(symbol));
        }
        *ret_cuda = take_ptr(cuda);
        return 0;
}

static int fail(const struct cuda *cuda, const char *call, int result, char *error, size_t error_size) {
        const char *text = NULL;

        if (cuda->get_error_string(result, &text) != CUDA_SUCCESS || !text)
                text = "an error without a name";
        (void)text_format(error, error_size, "%s: %s (%d)", call, text, result);
        return -EIO;
}

int cuda_retain_context(struct cuda *cuda, char *error, size_t error_size) {
        void *context = NULL;
        int result, device = 0;

        result = cuda->init(0);
        if (result != CUDA_SUCCESS)
                return fail(cuda, "cuInit", result, error, error_size);
        result = cuda->get_device(&device, 0);
        if (result != CUDA_SUCCESS)
                return fail(cuda, "cuDeviceGet", result, error, error_size);
        result = cuda->retain_context(&context, device);
        if (result != CUDA_SUCCESS)
                return fail(cuda, "cuDevicePrimaryCtxRetain", result, error, error_size);
        return 0;
}
