/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/unit/hostile.h"

enum { LIMIT = 16 };

/* The record "abcdefgh" in four fragments, two of them empty, and then the record "xy". */
static const uint8_t stream[] = {
        0,    0, 0, 3, 'a', 'b', 'c',                          /* "abc", more follows */
        0,    0, 0, 0,                                         /* nothing, more follows */
        0,    0, 0, 5, 'd', 'e', 'f', 'g', 'h', 0x80, 0, 0, 0, /* nothing, last fragment */
        0x80, 0, 0, 2, 'x', 'y',
};
enum { FIRST_SIZE = 24 };

/* The buffer is a heap block of exactly the limit's size, so the sanitizer detects any overflow. */
struct fixture {
        struct record_reader reader;
        uint8_t *buffer;
};

static struct fixture fixture_new(size_t limit) {
        struct fixture fixture = {.buffer = malloc(limit)};

        record_reader_init(&fixture.reader, fixture.buffer, limit);
        return fixture;
}

static void fixture_done(struct fixture *fixture) {
        free(fixture->buffer);
}

static void assert_record(const struct record_reader *reader, const char *text) {
        assert_int_equal(reader->length, strlen(text));
        assert_memory_equal(reader->buffer, text, strlen(text));
}

static void several_records_in_one_read_are_returned_one_by_one(void **state) {
        CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);
        struct record_reader *reader = &fixture.reader;
        size_t used;

        assert_int_equal(record_reader_feed(reader, stream, sizeof(stream), &used), RECORD_COMPLETE);
        assert_int_equal(used, FIRST_SIZE);
        assert_record(reader, "abcdefgh");
        record_reader_reset(reader);
        assert_int_equal(record_reader_feed(reader, stream + used, sizeof(stream) - used, &used), RECORD_COMPLETE);
        assert_int_equal(used, sizeof(stream) - FIRST_SIZE);
        assert_record(reader, "xy");
}

static void after_a_complete_record_no_bytes_are_taken_until_the_reset(void **state) {
        CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);
        size_t used;

        assert_int_equal(record_reader_feed(&fixture.reader, stream, sizeof(stream), &used), RECORD_COMPLETE);
        assert_int_equal(record_reader_feed(&fixture.reader, stream, sizeof(stream), &used), RECORD_COMPLETE);
        assert_int_equal(used, 0);
        assert_record(&fixture.reader, "abcdefgh");
}

static void a_record_may_be_split_at_every_byte(void **state) {
        for (size_t split = 0; split < FIRST_SIZE; split++) {
                CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);
                struct record_reader *reader = &fixture.reader;
                size_t used;

                assert_int_equal(record_reader_feed(reader, stream, split, &used), RECORD_INCOMPLETE);
                assert_int_equal(used, split);
                assert_int_equal(record_reader_is_partial(reader), split > 0);
                assert_int_equal(record_reader_feed(reader, stream + split, sizeof(stream) - split, &used),
                                 RECORD_COMPLETE);
                assert_int_equal(used, FIRST_SIZE - split);
                assert_record(reader, "abcdefgh");
                assert_false(record_reader_is_partial(reader));
        }
}

static void a_record_may_arrive_byte_by_byte(void **state) {
        CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);
        size_t used;

        for (size_t i = 0; i < FIRST_SIZE - 1; i++) {
                assert_int_equal(record_reader_feed(&fixture.reader, stream + i, 1, &used), RECORD_INCOMPLETE);
                assert_int_equal(used, 1);
                assert_true(record_reader_is_partial(&fixture.reader));
        }
        assert_int_equal(record_reader_feed(&fixture.reader, stream + FIRST_SIZE - 1, 1, &used), RECORD_COMPLETE);
        assert_record(&fixture.reader, "abcdefgh");
}

static void a_record_may_be_empty(void **state) {
        static const uint8_t empty[] = {0x80, 0, 0, 0};
        CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);
        size_t used;

        assert_int_equal(record_reader_feed(&fixture.reader, empty, sizeof(empty), &used), RECORD_COMPLETE);
        assert_int_equal(used, sizeof(empty));
        assert_record(&fixture.reader, "");
}

static void feeding_no_bytes_changes_nothing(void **state) {
        CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);
        size_t used;

        assert_int_equal(record_reader_feed(&fixture.reader, stream, 0, &used), RECORD_INCOMPLETE);
        assert_int_equal(used, 0);
        assert_false(record_reader_is_partial(&fixture.reader));
}

static int feed(struct record_reader *reader, const void *bytes, size_t count) {
        size_t used;

        return record_reader_feed(reader, bytes, count, &used);
}

static void a_record_may_fill_the_buffer_to_the_last_byte(void **state) {
        CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);
        uint8_t bytes[RECORD_HEADER_SIZE + LIMIT];

        memset(bytes, 'a', sizeof(bytes));
        record_header_encode(bytes, LIMIT);
        assert_int_equal(feed(&fixture.reader, bytes, sizeof(bytes)), RECORD_COMPLETE);
        assert_record(&fixture.reader, "aaaaaaaaaaaaaaaa");
}

static void a_record_that_is_too_long_is_refused_at_its_header(void **state) {
        static const uint8_t headers[][RECORD_HEADER_SIZE] = {
                {0x80, 0, 0, LIMIT + 1},  {0, 0, 0, LIMIT + 1},     {0x80, 1, 0, 0},
                {0x7f, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff},
        };

        for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
                CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);

                assert_int_equal(feed(&fixture.reader, headers[i], 3), RECORD_INCOMPLETE);
                assert_int_equal(feed(&fixture.reader, headers[i] + 3, 1), -EMSGSIZE);
        }
}

static void the_limit_is_for_the_sum_of_all_fragments(void **state) {
        static const uint8_t just[] = {0, 0, 0, 2, 'a', 'b', 0x80, 0, 0, LIMIT - 2};
        static const uint8_t over[] = {0, 0, 0, 2, 'a', 'b', 0x80, 0, 0, LIMIT - 1};
        /* The sum of the lengths overflows 32 bits. */
        static const uint8_t wrap[] = {0, 0, 0, 2, 'a', 'b', 0xff, 0xff, 0xff, 0xff};
        CLEANUP(fixture_done) struct fixture a = fixture_new(LIMIT);
        CLEANUP(fixture_done) struct fixture b = fixture_new(LIMIT);
        CLEANUP(fixture_done) struct fixture c = fixture_new(LIMIT);

        assert_int_equal(feed(&a.reader, just, sizeof(just)), RECORD_INCOMPLETE);
        assert_int_equal(feed(&b.reader, over, sizeof(over)), -EMSGSIZE);
        assert_int_equal(feed(&c.reader, wrap, sizeof(wrap)), -EMSGSIZE);
}

static void too_many_fragments_are_refused(void **state) {
        static const uint8_t nothing[] = {0, 0, 0, 0}, last[] = {0x80, 0, 0, 0};
        CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);
        CLEANUP(fixture_done) struct fixture just = fixture_new(LIMIT);

        for (int i = 0; i < RECORD_FRAGMENTS_MAX; i++)
                assert_int_equal(feed(&fixture.reader, nothing, sizeof(nothing)), RECORD_INCOMPLETE);
        assert_int_equal(feed(&fixture.reader, last, sizeof(last)), -EPROTO);

        for (int i = 0; i < RECORD_FRAGMENTS_MAX - 1; i++)
                assert_int_equal(feed(&just.reader, nothing, sizeof(nothing)), RECORD_INCOMPLETE);
        assert_int_equal(feed(&just.reader, last, sizeof(last)), RECORD_COMPLETE);
}

static void a_broken_stream_stays_broken(void **state) {
        static const uint8_t too_long[] = {0x80, 0, 0, LIMIT + 1};
        CLEANUP(fixture_done) struct fixture fixture = fixture_new(LIMIT);

        assert_int_equal(feed(&fixture.reader, too_long, sizeof(too_long)), -EMSGSIZE);
        assert_int_equal(feed(&fixture.reader, stream, sizeof(stream)), -EMSGSIZE);
        record_reader_reset(&fixture.reader);
        assert_int_equal(feed(&fixture.reader, stream, sizeof(stream)), -EMSGSIZE);
}

/* Any bytes give the same records when read at once and when read byte by byte. */
static void judge_noise(const uint8_t *bytes, size_t size) {
        CLEANUP(fixture_done) struct fixture whole = fixture_new(LIMIT);
        CLEANUP(fixture_done) struct fixture pieces = fixture_new(LIMIT);
        size_t at = 0, used, piece = 0;
        int r;

        do {
                r = record_reader_feed(&whole.reader, bytes + at, size - at, &used);
                if (r >= 0)
                        at += used;
                int s = RECORD_INCOMPLETE;
                while (s == RECORD_INCOMPLETE && piece < size)
                        s = feed(&pieces.reader, bytes + piece++, 1);
                assert_int_equal(r, s);
                if (r == RECORD_COMPLETE) {
                        assert_int_equal(piece, at);
                        assert_int_equal(whole.reader.length, pieces.reader.length);
                        assert_memory_equal(whole.buffer, pieces.buffer, whole.reader.length);
                        record_reader_reset(&whole.reader);
                        record_reader_reset(&pieces.reader);
                }
        } while (r == RECORD_COMPLETE);
}

static void a_damaged_stream_never_overflows_the_buffer(void **state) {
        hostile_truncate(stream, sizeof(stream), judge_noise);
        hostile_flip(stream, sizeof(stream), judge_noise);
}

static void a_header_has_the_last_flag_and_the_length(void **state) {
        static const uint8_t expected[] = {0x80, 0x01, 0x02, 0x03};
        uint8_t header[RECORD_HEADER_SIZE];

        record_header_encode(header, 0x010203);
        assert_memory_equal(header, expected, sizeof(expected));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(several_records_in_one_read_are_returned_one_by_one),
                cmocka_unit_test(after_a_complete_record_no_bytes_are_taken_until_the_reset),
                cmocka_unit_test(a_record_may_be_split_at_every_byte),
                cmocka_unit_test(a_record_may_arrive_byte_by_byte),
                cmocka_unit_test(a_record_may_be_empty),
                cmocka_unit_test(feeding_no_bytes_changes_nothing),
                cmocka_unit_test(a_record_may_fill_the_buffer_to_the_last_byte),
                cmocka_unit_test(a_record_that_is_too_long_is_refused_at_its_header),
                cmocka_unit_test(the_limit_is_for_the_sum_of_all_fragments),
                cmocka_unit_test(too_many_fragments_are_refused),
                cmocka_unit_test(a_broken_stream_stays_broken),
                cmocka_unit_test(a_damaged_stream_never_overflows_the_buffer),
                cmocka_unit_test(a_header_has_the_last_flag_and_the_length),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
