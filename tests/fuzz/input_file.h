#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The bytes as a file, for what reads by path: one file in memory, overwritten for each input. */

#include <stddef.h>
#include <stdint.h>

/* The file's path, in static storage. Its content from now on are these bytes. */
const char *input_file(const uint8_t *bytes, size_t size);
