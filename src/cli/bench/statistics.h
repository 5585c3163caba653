#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What is said of some measured times: figures that one wild value among them does not move, and the extremes, which
 * show that there was one.
 */

#include <stddef.h>
#include <stdint.h>

struct statistics {
        size_t n;
        double median;
        double min;
        double max;
        double mad; /* median absolute deviation: half of the values are no farther from the median */
};

/* All in the unit of the values; all 0 when there are none. values stay as they are. Returns 0 or -ENOMEM. */
int statistics_of(const uint64_t *values, size_t n, struct statistics *ret_statistics);
