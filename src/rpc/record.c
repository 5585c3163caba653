/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/record.h"

#include <errno.h>
#include <string.h>

#define LAST_FRAGMENT UINT32_C(0x80000000)

void record_reader_init(struct record_reader *reader, void *buffer, size_t size) {
        *reader = (struct record_reader){.buffer = buffer, .size = size};
}

void record_reader_reset(struct record_reader *reader) {
        int error = reader->error;

        record_reader_init(reader, reader->buffer, reader->size);
        reader->error = error; /* the stream cannot be read further */
}

/* Whether the header of a fragment and all its bytes have arrived. */
static int is_fragment_complete(const struct record_reader *reader) {
        return reader->header_count == RECORD_HEADER_SIZE && reader->left == 0;
}

static int is_record_complete(const struct record_reader *reader) {
        return is_fragment_complete(reader) && reader->last;
}

/*
 * The header of a complete fragment stays stored until the next one begins, so this is true between two fragments as
 * well.
 */
int record_reader_is_partial(const struct record_reader *reader) {
        return reader->header_count > 0 && !is_record_complete(reader);
}

/* Checks a complete header, before any byte of its fragment is used. */
static int begin_fragment(struct record_reader *reader) {
        const uint8_t *header = reader->header;
        uint32_t word = (uint32_t)header[0] << 24 | (uint32_t)header[1] << 16 | (uint32_t)header[2] << 8 | header[3];
        uint32_t length = word & ~LAST_FRAGMENT;

        if (length > reader->size - reader->length)
                return -EMSGSIZE;
        if (++reader->fragments > RECORD_FRAGMENTS_MAX)
                return -EPROTO;
        reader->left = length;
        reader->last = (word & LAST_FRAGMENT) != 0;
        return 0;
}

static size_t smaller(size_t a, size_t b) {
        return a < b ? a : b;
}

static size_t take_header(struct record_reader *reader, const uint8_t *bytes, size_t count) {
        size_t used = smaller(count, RECORD_HEADER_SIZE - reader->header_count);

        memcpy(reader->header + reader->header_count, bytes, used);
        reader->header_count += (unsigned)used;
        if (reader->header_count == RECORD_HEADER_SIZE)
                reader->error = begin_fragment(reader);
        return used;
}

static size_t take_body(struct record_reader *reader, const uint8_t *bytes, size_t count) {
        size_t used = smaller(count, reader->left);

        memcpy(reader->buffer + reader->length, bytes, used);
        reader->length += used;
        reader->left -= (uint32_t)used;
        return used;
}

int record_reader_feed(struct record_reader *reader, const void *bytes, size_t count, size_t *ret_used) {
        const uint8_t *next = bytes;
        size_t used = 0;

        while (!reader->error && !is_record_complete(reader) && used < count) {
                if (is_fragment_complete(reader))
                        reader->header_count = 0; /* not the last one: another header follows */
                if (reader->header_count < RECORD_HEADER_SIZE)
                        used += take_header(reader, next + used, count - used);
                else
                        used += take_body(reader, next + used, count - used);
        }
        if (reader->error)
                return reader->error;
        *ret_used = used;
        return is_record_complete(reader) ? RECORD_COMPLETE : RECORD_INCOMPLETE;
}

void record_header_encode(uint8_t header[static RECORD_HEADER_SIZE], uint32_t length) {
        uint32_t word = length | LAST_FRAGMENT;

        header[0] = (uint8_t)(word >> 24);
        header[1] = (uint8_t)(word >> 16);
        header[2] = (uint8_t)(word >> 8);
        header[3] = (uint8_t)word;
}
