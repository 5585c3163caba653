#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The part of CUDA's driver library, loaded at run time, that every job uses: initialisation, and a context on the
 * first visible GPU (CUDA_VISIBLE_DEVICES decides which).
 */

#include <stddef.h>

#define CUDA_LIBRARY "libcuda.so.1"

struct cuda;

/* Loads the library, without initialising it. Returns 0; -ENOMEM or -ENOENT, with a sentence in error. */
int cuda_open(struct cuda **ret_cuda, const char *library, char *error, size_t error_size);
/* For CLEANUP(cuda_done). The library stays loaded: it does not support being unloaded. */
void cuda_done(struct cuda **cuda);

/* cuInit() and cuDevicePrimaryCtxRetain(). Returns 0 or -EIO, with a sentence in error. */
int cuda_retain_context(struct cuda *cuda, char *error, size_t error_size);
