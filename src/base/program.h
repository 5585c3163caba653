#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Runs a short program with a fixed environment and none of our descriptors open, and waits for it at most for the
 * given time. Its output is captured; the program has ended when its end of the pipe closes.
 */

#include <stddef.h>
#include <stdint.h>

/*
 * arguments[0] is the program's path; the array ends with NULL. The first of what it printed comes back in ret_output
 * (size bytes, terminated; also on failure). Returns 0 when it exited with 0; -EIO when with another status or by a
 * signal; -ETIMEDOUT when it was killed for being late; or negative errno.
 */
int program_run(const char *const arguments[], uint64_t timeout_usec, char *ret_output, size_t size);
