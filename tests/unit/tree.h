#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A temporary folder for a test, with the files of a simulated /proc, /sys and /dev. */

#include <stdbool.h>
#include <stddef.h>

#include "base/locations.h"

struct tree {
        char root[64];
        struct locations locations; /* below root */
};

/* cmocka's set-up and tear-down: *state is a struct tree. */
int tree_setup(void **state);
int tree_teardown(void **state);

/* Writes a file and makes its folders. Text NULL makes an empty folder instead. Fails the test on an error. */
void tree_put(const struct tree *tree, const char *path, const char *text);

/* Returns the first line of a file, in static storage, or NULL if the file does not exist. */
const char *tree_get(const struct tree *tree, const char *path);

/* Returns the path below the root, in static storage. */
const char *tree_path(const struct tree *tree, const char *path);
