/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/nearest.h"

#include <stdint.h>
#include <string.h>

#include "base/text.h"

enum { WORD_MAX = 48 };

struct nearest nearest_to(const char *word) {
        return (struct nearest){.word = word, .distance = SIZE_MAX};
}

static size_t smaller(size_t a, size_t b) {
        return a < b ? a : b;
}

/*
 * The optimal string alignment distance: how many letters must be inserted, removed, changed or swapped with their
 * neighbour. Only three rows of the usual table are needed at a time.
 */
static size_t distance(const char *a, const char *b) {
        size_t rows[3][WORD_MAX + 1];
        size_t length_a = strlen(a), length_b = strlen(b);

        for (size_t j = 0; j <= length_b; j++)
                rows[0][j] = j;
        for (size_t i = 1; i <= length_a; i++) {
                size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above_that = rows[(i + 1) % 3];

                row[0] = i;
                for (size_t j = 1; j <= length_b; j++) {
                        row[j] = smaller(smaller(row[j - 1], above[j]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                row[j] = smaller(row[j], above_that[j - 2] + 1);
                }
        }
        return rows[length_a % 3][length_b];
}

void nearest_try(struct nearest *nearest, const char *name) {
        size_t length = strlen(name), found;

        if (strlen(nearest->word) > WORD_MAX || length > WORD_MAX)
                return;
        found = distance(nearest->word, name);
        if (found < nearest->distance && found <= 1 + length / 4) {
                nearest->name = name;
                nearest->distance = found;
        }
}

const char *nearest_hint(const struct nearest *nearest, const char *prefix, char *buffer, size_t size) {
        if (nearest->name)
                (void)text_format(buffer, size, "; did you mean '%s%s'?", prefix, nearest->name);
        else
                buffer[0] = '\0';
        return buffer;
}
