#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Statistics of measured times: figures that one outlier does not change, and the extremes, which show it.
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

/* All in the unit of the values; all 0 without values. Returns 0 or -ENOMEM. */
int statistics_of(const uint64_t *values, size_t n, struct statistics *ret_statistics);
