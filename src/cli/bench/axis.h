#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A logarithmic axis of times: between a cold GPU and a held one lie several powers of ten, and on a linear axis the
 * held one's values would all be one point. It begins and ends with a power of ten.
 */

#include <stddef.h>
#include <stdint.h>

struct axis {
        int first; /* the power of ten, in nanoseconds */
        int last;  /* greater than first */
};

/* The shortest axis that has both; 0 is taken for 1. */
struct axis axis_for(uint64_t min_nsec, uint64_t max_nsec);

/* From 0 (the beginning) to 1 (the end). */
double axis_position(const struct axis *axis, double nsec);

/* The power of ten as a number. */
double axis_value(int power);

/* "10 us", "1 s": what is written at the power of ten. Returns buffer. */
const char *axis_label(int power, char *buffer, size_t size);
