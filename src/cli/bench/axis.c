/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/bench/axis.h"

#include <math.h>

#include "base/cleanup.h"
#include "base/text.h"

static double logarithm(double nsec) {
        return log10(nsec < 1 ? 1 : nsec);
}

struct axis axis_for(uint64_t min_nsec, uint64_t max_nsec) {
        struct axis axis = {
                .first = (int)floor(logarithm((double)min_nsec)),
                .last = (int)ceil(logarithm((double)max_nsec)),
        };

        if (axis.last <= axis.first)
                axis.last = axis.first + 1;
        return axis;
}

double axis_position(const struct axis *axis, double nsec) {
        double position = (logarithm(nsec) - axis->first) / (axis->last - axis->first);

        return position < 0 ? 0 : position > 1 ? 1 : position;
}

double axis_value(int power) {
        return pow(10, power);
}

const char *axis_label(int power, char *buffer, size_t size) {
        static const char *const units[] = {"ns", "us", "ms", "s"};
        static const int factors[] = {1, 10, 100};
        int unit = power / 3 < (int)ARRAY_SIZE(units) ? power / 3 : (int)ARRAY_SIZE(units) - 1;
        double value = factors[power % 3];

        for (int i = unit; i < power / 3; i++)
                value *= 1000;
        (void)text_format(buffer, size, "%.0f %s", value, units[unit]);
        return buffer;
}
