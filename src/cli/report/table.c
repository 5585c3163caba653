/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/report/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"

enum {
        GAP = 2, /* blanks between columns */
};

struct cell {
        char *text; /* NULL: empty */
        enum colour colour;
};

struct table_row {
        struct cell cells[TABLE_COLUMNS_MAX];
        size_t n;
};

void table_done(struct table *table) {
        for (size_t i = 0; i < table->n_rows; i++)
                for (size_t j = 0; j < table->rows[i].n; j++)
                        free(table->rows[i].cells[j].text);
        free(table->rows);
}

void table_row(struct table *table) {
        struct table_row *rows = array_grown(table->rows, table->n_rows, sizeof(*rows));

        if (!rows) {
                table->out_of_memory = true;
                return;
        }
        table->rows = rows;
        table->rows[table->n_rows++] = (struct table_row){0};
}

void table_cell(struct table *table, enum colour colour, const char *format, ...) {
        struct table_row *row = table->n_rows > 0 ? &table->rows[table->n_rows - 1] : NULL;
        va_list arguments;
        char *text;

        if (table->out_of_memory || !row || row->n == table->n_columns)
                return;
        va_start(arguments, format);
        if (vasprintf(&text, format, arguments) < 0)
                text = NULL;
        va_end(arguments);
        if (!text) {
                table->out_of_memory = true;
                return;
        }
        row->cells[row->n++] = (struct cell){.text = text, .colour = colour};
}

/* ---- widths ------------------------------------------------------------------ */

static size_t natural_width(const struct table *table, size_t column) {
        size_t width = strlen(table->columns[column].title);

        for (size_t i = 0; i < table->n_rows; i++)
                if (column < table->rows[i].n) {
                        size_t length = strlen(table->rows[i].cells[column].text);

                        width = length > width ? length : width;
                }
        return width;
}

/* Takes up to `excess` off a column, but not below its minimum; returns what is still too much. */
static size_t shrink(size_t *width, size_t width_min, size_t excess) {
        size_t give = *width > width_min ? *width - width_min : 0;

        if (give > excess)
                give = excess;
        *width -= give;
        return excess - give;
}

size_t table_width(const struct table *table) {
        size_t total = 0;

        for (size_t i = 0; i < table->n_columns; i++)
                total += natural_width(table, i) + (i > 0 ? GAP : 0);
        return total;
}

static void find_widths(const struct table *table, size_t limit, size_t widths[static TABLE_COLUMNS_MAX]) {
        size_t total = table_width(table), excess;

        for (size_t i = 0; i < table->n_columns; i++)
                widths[i] = natural_width(table, i);
        if (limit == 0 || total <= limit)
                return;
        excess = total - limit;
        for (size_t i = 0; i < table->n_columns && excess > 0; i++)
                if (table->columns[i].width_min > 0)
                        excess = shrink(&widths[i], table->columns[i].width_min, excess);
        if (excess > 0) {
                size_t last = table->n_columns - 1;

                (void)shrink(&widths[last], strlen(table->columns[last].title), excess);
        }
}

/* ---- printing ---------------------------------------------------------------- */

void colour_print(FILE *stream, bool colours, enum colour colour, const char *text) {
        static const char *const codes[] = {
                [COLOUR_BOLD] = "1",
                [COLOUR_GOOD] = "32",
                [COLOUR_WARNING] = "33",
                [COLOUR_BAD] = "31",
        };

        if (colours && colour != COLOUR_NONE)
                (void)fprintf(stream, "\033[%sm%s\033[0m", codes[colour], text);
        else
                (void)fputs(text, stream);
}

/* A text that was cut ends in "..". */
static void print_cell(FILE *stream, const struct table_column *column, size_t width, bool is_last, bool colours,
                       enum colour colour, const char *text) {
        char shown[TABLE_CELL_SIZE];
        size_t length = strlen(text), blanks;

        if (width > sizeof(shown) - 1)
                width = sizeof(shown) - 1;
        if (length > width)
                (void)snprintf(shown, sizeof(shown), "%.*s..", width > 2 ? (int)width - 2 : 0, text);
        else
                (void)snprintf(shown, sizeof(shown), "%s", text);
        length = strlen(shown);
        blanks = length < width ? width - length : 0;

        if (column->right && !(is_last && text[0] == '\0'))
                (void)fprintf(stream, "%*s", (int)blanks, "");
        colour_print(stream, colours, colour, shown);
        if (!column->right && !is_last)
                (void)fprintf(stream, "%*s", (int)blanks, "");
        (void)fprintf(stream, "%*s", is_last ? 0 : GAP, "");
}

static void print_rule(const struct table *table, FILE *stream, const size_t *widths) {
        for (size_t i = 0; i < table->n_columns; i++) {
                for (size_t j = 0; j < widths[i]; j++)
                        (void)fputc('-', stream);
                (void)fprintf(stream, "%*s", i + 1 < table->n_columns ? GAP : 0, "");
        }
        (void)fputc('\n', stream);
}

int table_print(const struct table *table, FILE *stream, size_t width, bool colours) {
        size_t widths[TABLE_COLUMNS_MAX], last = table->n_columns - 1;

        if (table->out_of_memory)
                return -ENOMEM;
        find_widths(table, width, widths);
        for (size_t i = 0; i <= last; i++)
                print_cell(stream, &table->columns[i], widths[i], i == last, colours, COLOUR_BOLD,
                           table->columns[i].title);
        (void)fputc('\n', stream);
        print_rule(table, stream, widths);
        for (size_t i = 0; i < table->n_rows; i++) {
                const struct table_row *row = &table->rows[i];

                for (size_t j = 0; j < row->n; j++)
                        print_cell(stream, &table->columns[j], widths[j], j + 1 == row->n, colours,
                                   row->cells[j].colour, row->cells[j].text);
                (void)fputc('\n', stream);
        }
        return 0;
}
