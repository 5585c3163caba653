#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Record marking for streams (RFC 5531 section 11): each fragment has a four-byte header, the highest bit of which says
 * "last fragment", the rest the fragment's length in bytes.
 *
 * A reader collects one record from bytes that arrive in any pieces, into a buffer of the caller's; its size is the
 * limit on a record. A record of no bytes and fragments of no bytes are legal on the wire; a run of more than
 * RECORD_FRAGMENTS_MAX fragments in one record is refused, so that a peer cannot keep us busy without ever finishing.
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
        int error;             /* what ended the stream: every later feed returns it again */
};

void record_reader_init(struct record_reader *reader, void *buffer, size_t size);

/* Forgets the collected record and begins the next. */
void record_reader_reset(struct record_reader *reader);

enum {
        RECORD_INCOMPLETE = 0, /* all bytes were taken; more are needed */
        RECORD_COMPLETE = 1,   /* buffer[0..length) is a record; call record_reader_reset() before feeding on */
};

/*
 * Takes bytes until they are used up or a record is complete, and says through ret_used how many it took.
 * Returns RECORD_INCOMPLETE, RECORD_COMPLETE, -EMSGSIZE when the record would not fit into the buffer (said as soon as
 * the header announces it), or -EPROTO for too many fragments. After an error the stream cannot be read further.
 */
int record_reader_feed(struct record_reader *reader, const void *bytes, size_t count, size_t *ret_used);

/* Whether a record was begun and is not complete: a peer that stops now owes us bytes. */
int record_reader_is_partial(const struct record_reader *reader);

/* Writes the header of a record that is sent as a single fragment of length bytes. */
void record_header_encode(uint8_t header[static RECORD_HEADER_SIZE], uint32_t length);
