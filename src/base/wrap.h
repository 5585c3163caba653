#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Sentences broken into lines between words. */

#include <stddef.h>
#include <stdio.h>

/*
 * Prints text and a newline. The first line goes on where `column` columns are already printed; further lines are
 * indented. width counts all columns; 0: one line.
 */
void wrap_print(FILE *stream, const char *text, size_t column, size_t indent, size_t width);
