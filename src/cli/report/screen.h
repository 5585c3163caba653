#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Text that keeps its place on a terminal whose cursor can be moved (report_style.redraws): each drawing replaces the
 * one before, and what is above it stays.
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

/* For a terminal whose size has changed, so that its lines may be anywhere: clears it, and begins anew. */
void screen_clear(struct screen *screen);
