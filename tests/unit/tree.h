#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A folder of a test's own, laid out as /proc, /sys and /dev are, whose locations tests give. */

#include <stdbool.h>
#include <stddef.h>

#include "base/locations.h"

struct tree {
        char root[64];
        struct locations locations; /* of that root */
};

/* cmocka's set-up and tear-down: *state is a struct tree. */
int tree_setup(void **state);
int tree_teardown(void **state);

/* Writes a file, with the folders it needs; text NULL makes an empty folder. Fails the test if it cannot. */
void tree_put(const struct tree *tree, const char *path, const char *text);

/* The text of a file, in static storage, without its last newline; NULL when it is not there. */
const char *tree_get(const struct tree *tree, const char *path);

/* The path with the root in front, in static storage. */
const char *tree_path(const struct tree *tree, const char *path);
