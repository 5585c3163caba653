/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Record marking. The first byte is the size of the buffer; the rest is the stream, read whole and byte by byte. */

#include <string.h>

#include "base/cleanup.h"
#include "rpc/record.h"
#include "tests/fuzz/fuzz.h"

struct stream {
        const uint8_t *bytes;
        size_t size;
        size_t at;
        size_t step; /* bytes fed at once */
        struct record_reader reader;
};

static void stream_init(struct stream *stream, const uint8_t *bytes, size_t size, size_t step, size_t limit) {
        *stream = (struct stream){.bytes = bytes, .size = size, .step = step};
        record_reader_init(&stream->reader, malloc(limit + 1), limit);
        fuzz_require(stream->reader.buffer);
}

static void stream_done(struct stream *stream) {
        free(stream->reader.buffer);
}

/* Reads to the next record, the end of the stream, or an error. */
static int stream_read(struct stream *stream) {
        int r = RECORD_INCOMPLETE;

        record_reader_reset(&stream->reader);
        while (r == RECORD_INCOMPLETE && stream->at < stream->size) {
                size_t left = stream->size - stream->at, used = 0;

                r = record_reader_feed(&stream->reader, stream->bytes + stream->at,
                                       left < stream->step ? left : stream->step, &used);
                stream->at += used;
                fuzz_require(stream->at <= stream->size && stream->reader.length <= stream->reader.size);
        }
        return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        CLEANUP(stream_done) struct stream whole = {0}, single = {0};
        int r;

        if (size == 0)
                return 0;
        stream_init(&whole, bytes + 1, size - 1, SIZE_MAX, bytes[0]);
        stream_init(&single, bytes + 1, size - 1, 1, bytes[0]);
        do {
                r = stream_read(&whole);
                fuzz_require(stream_read(&single) == r);
                if (r < 0)
                        break;
                fuzz_require(single.at == whole.at && single.reader.length == whole.reader.length);
                fuzz_require(memcmp(single.reader.buffer, whole.reader.buffer, whole.reader.length) == 0);
        } while (r == RECORD_COMPLETE && whole.at < whole.size);
        return 0;
}
