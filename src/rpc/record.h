#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Record marking for streams (RFC 5531 section 11): each fragment has a four-byte header. Its highest bit marks the
 * last fragment; the other bits are the fragment's length in bytes.
 *
 * A reader collects one record, from bytes that arrive in any pieces, into the caller's buffer. The size of the buffer
 * limits a record. Empty records and empty fragments are valid. A record with more than RECORD_FRAGMENTS_MAX fragments
 * is rejected, so that a peer cannot keep us busy for ever.
 */

#include <stddef.h>
#include <stdint.h>

enum {
        RECORD_HEADER_SIZE = 4,
        RECORD_FRAGMENTS_MAX = 64,
};

struct record_reader {
        uint8_t *buffer;
        size_t size;   /* capacity of buffer */
        size_t length; /* bytes of the record collected so far */
        uint8_t header[RECORD_HEADER_SIZE];
        unsigned header_count; /* bytes of the fragment header collected so far */
        uint32_t left;         /* bytes of the fragment still to come */
        unsigned fragments;    /* fragments begun in this record */
        int last;              /* this fragment is the record's last */
        int error;             /* the first error; every later feed returns it, too */
};

void record_reader_init(struct record_reader *reader, void *buffer, size_t size);

/* Drops the collected record and begins the next one. */
void record_reader_reset(struct record_reader *reader);

enum {
        RECORD_INCOMPLETE = 0, /* all bytes were used; more are needed */
        RECORD_COMPLETE = 1,   /* buffer[0..length) is a record; call record_reader_reset() before the next feed */
};

/*
 * Uses bytes until none is left or a record is complete; *ret_used is the number of bytes used. Returns
 * RECORD_INCOMPLETE, RECORD_COMPLETE, -EMSGSIZE as soon as a header announces more than fits into the buffer, or
 * -EPROTO for too many fragments. After an error the stream cannot be read further, and *ret_used is not set.
 */
int record_reader_feed(struct record_reader *reader, const void *bytes, size_t count, size_t *ret_used);

/* Whether a record has begun and is not complete. */
int record_reader_is_partial(const struct record_reader *reader);

/* Writes the header of a record that is sent as a single fragment of length bytes. */
void record_header_encode(uint8_t header[static RECORD_HEADER_SIZE], uint32_t length);
