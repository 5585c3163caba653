#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Arrays that grow one item at a time. There is room for as many items as the power of two at or above their number,
 * so only that number is kept.
 */

#include <stdlib.h>

/*
 * An array with room for one more behind its n items, in place of the one that is given: NULL, or one that has only
 * grown this way. NULL without memory; then the old one is as it was.
 */
static inline void *array_grown(void *items, size_t n, size_t item_size) {
        return (n & (n - 1)) != 0 ? items : reallocarray(items, n > 0 ? 2 * n : 1, item_size);
}
