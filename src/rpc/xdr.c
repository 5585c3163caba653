/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/xdr.h"

#include <string.h>

enum { XDR_UNIT = 4 }; /* RFC 4506 section 3: all items are multiples of four bytes */

void xdr_reader_init(struct xdr_reader *reader, const void *bytes, size_t size) {
        *reader = (struct xdr_reader){.next = bytes, .end = (const uint8_t *)bytes + size};
}

bool xdr_reader_ok(const struct xdr_reader *reader) {
        return !reader->failed;
}

size_t xdr_reader_left(const struct xdr_reader *reader) {
        return (size_t)(reader->end - reader->next);
}

/* Also drops the rest, so that no later read can begin in the middle of an item. */
static void reader_fail(struct xdr_reader *reader) {
        reader->failed = true;
        reader->next = reader->end;
}

/*
 * Returns the next size bytes, or NULL. size is compared with what is left, because adding it to a pointer could
 * overflow.
 */
static const uint8_t *reader_take(struct xdr_reader *reader, size_t size) {
        const uint8_t *bytes = reader->next;

        if (reader->failed || size > xdr_reader_left(reader)) {
                reader_fail(reader);
                return NULL;
        }
        reader->next += size;
        return bytes;
}

/* The number of bytes that fill the last unit of a body of that size. */
static size_t padding_of(size_t size) {
        return (XDR_UNIT - size % XDR_UNIT) % XDR_UNIT;
}

uint32_t xdr_read_u32(struct xdr_reader *reader) {
        const uint8_t *bytes = reader_take(reader, XDR_UNIT);

        if (!bytes)
                return 0;
        return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

int32_t xdr_read_i32(struct xdr_reader *reader) {
        return (int32_t)xdr_read_u32(reader);
}

uint64_t xdr_read_u64(struct xdr_reader *reader) {
        uint64_t high = xdr_read_u32(reader);
        uint64_t low = xdr_read_u32(reader);

        /* Half of a number is not valid: a failed reader returns 0. */
        return reader->failed ? 0 : high << 32 | low;
}

uint32_t xdr_read_at_most(struct xdr_reader *reader, uint32_t maximum) {
        uint32_t value = xdr_read_u32(reader);

        if (value > maximum) {
                reader_fail(reader);
                return 0;
        }
        return value;
}

bool xdr_read_bool(struct xdr_reader *reader) {
        return xdr_read_at_most(reader, 1);
}

void xdr_skip_opaque(struct xdr_reader *reader, size_t maximum) {
        size_t length = xdr_read_u32(reader);

        if (length > maximum) {
                reader_fail(reader);
                return;
        }
        (void)reader_take(reader, length);
        (void)reader_take(reader, padding_of(length));
}

void xdr_read_string(struct xdr_reader *reader, char *buffer, size_t size) {
        static const uint8_t zeros[XDR_UNIT];
        size_t length = xdr_read_at_most(reader, (uint32_t)(size - 1));
        const uint8_t *bytes = reader_take(reader, length);
        const uint8_t *padding = reader_take(reader, padding_of(length));

        buffer[0] = '\0';
        if (!bytes || !padding)
                return;
        if (memchr(bytes, '\0', length) || memcmp(padding, zeros, padding_of(length)) != 0) {
                reader_fail(reader);
                return;
        }
        memcpy(buffer, bytes, length);
        buffer[length] = '\0';
}

void xdr_writer_init(struct xdr_writer *writer, void *buffer, size_t size) {
        *writer = (struct xdr_writer){.start = buffer, .next = buffer, .end = (uint8_t *)buffer + size};
}

bool xdr_writer_ok(const struct xdr_writer *writer) {
        return !writer->failed;
}

size_t xdr_writer_size(const struct xdr_writer *writer) {
        return (size_t)(writer->next - writer->start);
}

/* Returns room for size bytes, or NULL. */
static uint8_t *writer_reserve(struct xdr_writer *writer, size_t size) {
        uint8_t *bytes = writer->next;

        if (writer->failed || size > (size_t)(writer->end - writer->next)) {
                writer->failed = true;
                return NULL;
        }
        writer->next += size;
        return bytes;
}

void xdr_write_u32(struct xdr_writer *writer, uint32_t value) {
        uint8_t *bytes = writer_reserve(writer, XDR_UNIT);

        if (!bytes)
                return;
        bytes[0] = (uint8_t)(value >> 24);
        bytes[1] = (uint8_t)(value >> 16);
        bytes[2] = (uint8_t)(value >> 8);
        bytes[3] = (uint8_t)value;
}

void xdr_write_i32(struct xdr_writer *writer, int32_t value) {
        xdr_write_u32(writer, (uint32_t)value);
}

void xdr_write_u64(struct xdr_writer *writer, uint64_t value) {
        xdr_write_u32(writer, (uint32_t)(value >> 32));
        xdr_write_u32(writer, (uint32_t)value);
}

void xdr_write_bool(struct xdr_writer *writer, bool value) {
        xdr_write_u32(writer, value ? 1 : 0);
}

void xdr_write_string(struct xdr_writer *writer, const char *text, size_t maximum) {
        size_t length = strnlen(text, maximum);
        size_t padding = padding_of(length);
        uint8_t *bytes;

        xdr_write_u32(writer, (uint32_t)length);
        bytes = writer_reserve(writer, length + padding);
        if (!bytes)
                return;
        memcpy(bytes, text, length);
        memset(bytes + length, 0, padding);
}
