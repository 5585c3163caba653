#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Draws text in place on a terminal whose cursor can be moved (report_style.redraws): each drawing replaces the one
 * before, and the lines above it stay.
 */

#include <stddef.h>
#include <stdio.h>

/* Begins with no drawing. */
struct screen {
        FILE *stream;
        size_t n_lines; /* of the drawing; the cursor stands below it */
};

/* Draws whole lines. Cuts those that are too long. If there are too many, leaves out the last and says how many. */
void screen_draw(struct screen *screen, const char *text);

/* Clears the terminal, whose lines may be anywhere after a change of its size. The next drawing begins at the top. */
void screen_clear(struct screen *screen);
