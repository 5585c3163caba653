#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * One fuzz target a file: any bytes at all must be read without a fault, and what was understood must survive being
 * written and read again. libFuzzer calls it with what it makes up (meson -Dfuzz=true, clang), main.c with the files of
 * corpus/.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Not assert(): a build without assertions must find the same faults. */
static inline void fuzz_require(bool condition) {
        if (!condition)
                abort();
}
