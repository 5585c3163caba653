#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Standard input, output and error. Whoever starts a program may have closed them (runit's `sv check` does), and may
 * have put a disk behind them that is full. Both are dealt with here, for every program.
 */

/*
 * Opens /dev/null in the place of each that is closed. First thing in main(): otherwise the next file that is opened, a
 * GPU's device or a client's socket, becomes one of them, and what is printed goes there.
 */
void standard_open(void);

/* Says "PROGRAM: text" on standard error. Returns status: return standard_complain(program, -ENOENT, "..."). */
int standard_complain(const char *program, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * Writes what stdio still has, and closes standard output. If output was lost it says so ("PROGRAM: cannot write the
 * output: No space left on device"), unless only the reader has gone away (-EPIPE). Returns 0 or negative errno.
 */
int standard_close_output(const char *program);
