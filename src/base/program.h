#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Runs a short program with a fixed environment and without our descriptors, and captures its output. Waits for the end
 * of the output, at most for the given time.
 */

#include <stddef.h>
#include <stdint.h>

/*
 * arguments[0] is the path of the program; the array ends with NULL. ret_output (size bytes) receives the beginning of
 * its output, terminated, also on failure. Returns 0 if the program exited with 0; -EIO if it exited with another
 * status or by a signal; -ETIMEDOUT if it took too long and was killed; or another negative errno.
 */
int program_run(const char *const arguments[], uint64_t timeout_usec, char *ret_output, size_t size);
