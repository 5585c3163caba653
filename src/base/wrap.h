#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Wraps text into lines. */

#include <stddef.h>
#include <stdio.h>

/*
 * Prints text and a newline. The first line continues at `column`, since that many columns are already printed; further
 * lines are indented by `indent`. width is that of a whole line; 0: do not wrap.
 */
void wrap_print(FILE *stream, const char *text, size_t column, size_t indent, size_t width);
