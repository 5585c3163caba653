#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * XDR (RFC 4506) in a buffer of the caller: the primitives that our two programs need. The first error of a reader or
 * writer sets `failed`; after that every read returns 0 and every write is dropped. So decode or encode a whole
 * message, and then check once with xdr_reader_ok() or xdr_writer_ok().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xdr_reader {
        const uint8_t *next;
        const uint8_t *end;
        bool failed;
};

struct xdr_writer {
        uint8_t *start;
        uint8_t *next;
        uint8_t *end;
        bool failed;
};

void xdr_reader_init(struct xdr_reader *reader, const void *bytes, size_t size);
bool xdr_reader_ok(const struct xdr_reader *reader);
size_t xdr_reader_left(const struct xdr_reader *reader);

uint32_t xdr_read_u32(struct xdr_reader *reader);
int32_t xdr_read_i32(struct xdr_reader *reader);
uint64_t xdr_read_u64(struct xdr_reader *reader);
/* A word in 0..maximum (an enumeration, the length of an array); a greater value fails the reader. */
uint32_t xdr_read_at_most(struct xdr_reader *reader, uint32_t maximum);
/* RFC 4506 section 4.4: 0 or 1; any other value fails the reader. */
bool xdr_read_bool(struct xdr_reader *reader);
/* Skips a variable-length opaque (section 4.10) and its padding. Fails the reader if it is longer than maximum. */
void xdr_skip_opaque(struct xdr_reader *reader, size_t maximum);
/*
 * Reads a string (section 4.11) into buffer of size bytes (at least 1) and terminates it. Fails the reader if the
 * string does not fit, contains a NUL, or has nonzero padding: a decoded string always encodes to the same bytes again.
 */
void xdr_read_string(struct xdr_reader *reader, char *buffer, size_t size);

void xdr_writer_init(struct xdr_writer *writer, void *buffer, size_t size);
bool xdr_writer_ok(const struct xdr_writer *writer);
size_t xdr_writer_size(const struct xdr_writer *writer);

void xdr_write_u32(struct xdr_writer *writer, uint32_t value);
void xdr_write_i32(struct xdr_writer *writer, int32_t value);
void xdr_write_u64(struct xdr_writer *writer, uint64_t value);
void xdr_write_bool(struct xdr_writer *writer, bool value);
/* Writes at most maximum bytes of text; a longer text need not be terminated. */
void xdr_write_string(struct xdr_writer *writer, const char *text, size_t maximum);
