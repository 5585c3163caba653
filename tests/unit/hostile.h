#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * One message made wrong in every simple way. Each variant is handed over in a heap block of exactly its size, so that
 * the address sanitizer (and valgrind) see a decoder that looks past its end.
 */

#include <stddef.h>
#include <stdint.h>

typedef void hostile_judge(const uint8_t *bytes, size_t size);

/* Every proper prefix, the empty one included. */
void hostile_truncate(const uint8_t *bytes, size_t size, hostile_judge *judge);

/* Every message that differs in one bit. */
void hostile_flip(const uint8_t *bytes, size_t size, hostile_judge *judge);
