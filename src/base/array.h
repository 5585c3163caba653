#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Arrays that grow one item at a time. The capacity is always the number of items rounded up to a power of two, so it
 * need not be stored.
 */

#include <stdlib.h>

/*
 * Returns an array with room for one more item after its n items; it replaces the given one, which is NULL or was grown
 * by this function. Returns NULL if there is no memory; the old array is then unchanged.
 */
static inline void *array_grown(void *items, size_t n, size_t item_size) {
        return (n & (n - 1)) != 0 ? items : reallocarray(items, n > 0 ? 2 * n : 1, item_size);
}
