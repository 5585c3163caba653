#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Text in columns, each as wide as its widest cell. If the table is too wide, columns that may shrink do so first, then
 * the last one is cut. Colours have no width.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum {
        TABLE_COLUMNS_MAX = 16,
        TABLE_CELL_SIZE = 512,
};

enum colour {
        COLOUR_NONE,
        COLOUR_BOLD,
        COLOUR_GOOD,
        COLOUR_WARNING,
        COLOUR_BAD,
};

struct table_column {
        const char *title;
        bool right;       /* aligned to the right */
        size_t width_min; /* not 0: may shrink to that */
};

/* Initialised with its columns, at most TABLE_COLUMNS_MAX, and no rows. */
struct table {
        const struct table_column *columns;
        size_t n_columns;
        struct table_row *rows;
        size_t n_rows;
        bool out_of_memory;
};

/* For CLEANUP(table_done). */
void table_done(struct table *table);

/* Begins a row, which table_cell() fills from left to right. table_print() reports if memory ran out. */
void table_row(struct table *table);
void table_cell(struct table *table, enum colour colour, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Its width if nothing is cut. */
size_t table_width(const struct table *table);

/* width 0: no limit. Returns 0 or -ENOMEM. */
int table_print(const struct table *table, FILE *stream, size_t width, bool colours);

/* Prints text, in the colour if colours is set. */
void colour_print(FILE *stream, bool colours, enum colour colour, const char *text);
