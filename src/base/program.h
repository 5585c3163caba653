#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Runs a short program with a fixed environment and nothing of ours open, and waits for it no longer than it is told
 * to. What the program prints is caught: its end of the pipe closing is how we see it end.
 */

#include <stddef.h>
#include <stdint.h>

/*
 * arguments[0] is the program's path; the array ends with NULL. The first of what it printed comes back in ret_output
 * (size bytes, terminated; also on failure). Returns 0 when it exited with 0; -EIO when with another status or by a
 * signal; -ETIMEDOUT when it was killed for being late; or negative errno.
 */
int program_run(const char *const arguments[], uint64_t timeout_usec, char *ret_output, size_t size);
