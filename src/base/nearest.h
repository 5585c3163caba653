#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* "Did you mean": among names, the one that a misspelt word is nearest to. */

#include <stddef.h>

struct nearest {
        const char *word;
        const char *name; /* the best so far, or NULL */
        size_t distance;  /* of it */
};

struct nearest nearest_to(const char *word);

/* Considers one more name. Names that differ too much from the word do not count. */
void nearest_try(struct nearest *nearest, const char *name);

/* "; did you mean 'status'?" into buffer, with prefix before the name; or nothing. Returns buffer. */
const char *nearest_hint(const struct nearest *nearest, const char *prefix, char *buffer, size_t size);
