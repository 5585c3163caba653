#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The input as a file, for functions that take a path: one file in memory, overwritten for each input. */

#include <stddef.h>
#include <stdint.h>

/* Replaces the file's content by these bytes. Returns its path, in static storage. */
const char *input_file(const uint8_t *bytes, size_t size);
