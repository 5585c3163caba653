#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Standard input, output and error. The parent of a program may have closed them (runit's `sv check` does), or
 * redirected them to a full disk. These functions handle both cases for every program.
 */

/*
 * Opens /dev/null for each standard descriptor that is closed. Call it first in main(): otherwise the next opened file,
 * such as a GPU's device or a client's socket, gets that number, and output would go there.
 */
void standard_open(void);

/* Writes "PROGRAM: text" to standard error. Returns status: return standard_complain(program, -ENOENT, "..."). */
int standard_complain(const char *program, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * Flushes and closes standard output. If output was lost, writes an error ("PROGRAM: cannot write the output: No space
 * left on device"), except if the reader is gone (-EPIPE). Returns 0 or negative errno.
 */
int standard_close_output(const char *program);
