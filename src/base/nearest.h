#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* "Did you mean": finds the name that is most similar to a misspelt word. */

#include <stddef.h>

struct nearest {
        const char *word;
        const char *name; /* the most similar one so far, or NULL */
        size_t distance;  /* of that name */
};

struct nearest nearest_to(const char *word);

/* Compares the word with one more name. Names that differ too much are ignored. */
void nearest_try(struct nearest *nearest, const char *name);

/* Writes "; did you mean '<prefix>status'?" into buffer, or "" if no name is similar. Returns buffer. */
const char *nearest_hint(const struct nearest *nearest, const char *prefix, char *buffer, size_t size);
