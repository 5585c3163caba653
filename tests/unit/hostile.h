#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Damages a message in every simple way. Each variant is passed in a heap block of exactly its size, so the address
 * sanitizer and valgrind detect a decoder that reads beyond its end.
 */

#include <stddef.h>
#include <stdint.h>

typedef void hostile_judge(const uint8_t *bytes, size_t size);

/* Judges every proper prefix of the message, including the empty one. */
void hostile_truncate(const uint8_t *bytes, size_t size, hostile_judge *judge);

/* Judges every message that differs in one bit. */
void hostile_flip(const uint8_t *bytes, size_t size, hostile_judge *judge);
