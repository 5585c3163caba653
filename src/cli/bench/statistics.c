/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/bench/statistics.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"

static int compare(const void *a, const void *b) {
        double first = *(const double *)a, second = *(const double *)b;

        return (first > second) - (first < second);
}

/* Sorts them. n is not 0. */
static double median_of(double *values, size_t n) {
        qsort(values, n, sizeof(values[0]), compare);
        return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

int statistics_of(const uint64_t *values, size_t n, struct statistics *ret_statistics) {
        CLEANUP(free_ptr) double *sorted = calloc(n + 1, sizeof(*sorted));
        struct statistics statistics = {.n = n};

        if (!sorted)
                return -ENOMEM;
        if (n > 0) {
                for (size_t i = 0; i < n; i++)
                        sorted[i] = (double)values[i];
                statistics.median = median_of(sorted, n);
                statistics.min = sorted[0];
                statistics.max = sorted[n - 1];
                for (size_t i = 0; i < n; i++)
                        sorted[i] = fabs(sorted[i] - statistics.median);
                statistics.mad = median_of(sorted, n);
        }
        *ret_statistics = statistics;
        return 0;
}
