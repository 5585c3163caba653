#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Text that keeps its place on a terminal whose cursor can be moved (report_style.redraws): each drawing replaces the
 * one before, what was above stays. */

#include <stddef.h>
#include <stdio.h>

/* Begins with no drawing. */
struct screen {
        FILE *stream;
        size_t n_lines; /* of the drawing; the cursor stands below it */
};

/* Draws whole lines. Those that are too long are cut, and those too many left out, the last ones, with a word. */
void screen_draw(struct screen *screen, const char *text);

/* The terminal has another size, and its lines are anywhere: clears it, and begins anew. */
void screen_clear(struct screen *screen);
