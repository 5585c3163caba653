/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "tests/unit/hostile.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static uint8_t *copy_of(const uint8_t *bytes, size_t size) {
        uint8_t *copy = malloc(size);

        assert(copy || size == 0);
        if (size > 0)
                memcpy(copy, bytes, size);
        return copy;
}

void hostile_truncate(const uint8_t *bytes, size_t size, hostile_judge *judge) {
        for (size_t length = 0; length < size; length++) {
                CLEANUP(free_ptr) uint8_t *copy = copy_of(bytes, length);

                judge(copy, length);
        }
}

void hostile_flip(const uint8_t *bytes, size_t size, hostile_judge *judge) {
        for (size_t bit = 0; bit < size * 8; bit++) {
                CLEANUP(free_ptr) uint8_t *copy = copy_of(bytes, size);

                copy[bit / 8] ^= (uint8_t)(1U << bit % 8);
                judge(copy, size);
        }
}
