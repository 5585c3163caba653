#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Standard input, output and error. Whoever starts a program may have closed them (runit's `sv check` does), and may
 * have put a disk behind them that is full. Both are dealt with here, for every program.
 */

/*
 * Opens /dev/null for each standard descriptor that is closed. Call it first in main(): otherwise the next opened file,
 * such as a GPU's device or a client's socket, gets that number, and output would go there.
 */
void standard_open(void);

/* Says "PROGRAM: text" on standard error. Returns status: return standard_complain(program, -ENOENT, "..."). */
int standard_complain(const char *program, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * Writes what stdio still has, and closes standard output. If output was lost it says so ("PROGRAM: cannot write the
 * output: No space left on device"), unless only the reader has gone away (-EPIPE). Returns 0 or negative errno.
 */
int standard_close_output(const char *program);
