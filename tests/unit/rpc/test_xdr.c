/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/xdr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* A reader of these bytes. They are on the heap, so the address sanitizer detects a read beyond them. */
#define READ(...)                                                                                                      \
        const uint8_t literal_[] = {__VA_ARGS__};                                                                      \
        CLEANUP(free_ptr) uint8_t *heap_ = malloc(sizeof(literal_));                                                   \
        struct xdr_reader reader;                                                                                      \
        memcpy(heap_, literal_, sizeof(literal_));                                                                     \
        xdr_reader_init(&reader, heap_, sizeof(literal_))

static void numbers_are_big_endian(void **state) {
        READ(0x12, 0x34, 0x56, 0x78, 0xff, 0xff, 0xff, 0xfe, 1, 2, 3, 4, 5, 6, 7, 0x88);

        assert_int_equal(xdr_read_u32(&reader), 0x12345678);
        assert_int_equal(xdr_read_i32(&reader), -2);
        assert_true(xdr_read_u64(&reader) == UINT64_C(0x0102030405060788));
        assert_true(xdr_reader_ok(&reader));
        assert_int_equal(xdr_reader_left(&reader), 0);
}

static void numbers_are_read_at_any_alignment(void **state) {
        uint8_t bytes[16] = {0};

        for (size_t offset = 0; offset <= 8; offset++) {
                struct xdr_reader reader;

                memset(bytes, 0, sizeof(bytes));
                bytes[offset + 7] = 0x2a;
                xdr_reader_init(&reader, bytes + offset, 8);
                assert_true(xdr_read_u64(&reader) == 0x2a);
        }
}

static void after_an_error_a_reader_stays_failed(void **state) {
        READ(0, 0, 0, 2, 0, 0, 0, 7);

        assert_false(xdr_read_bool(&reader)); /* 2 is not a boolean */
        assert_false(xdr_reader_ok(&reader));
        assert_int_equal(xdr_read_u32(&reader), 0); /* not the 7 that follows */
        assert_int_equal(xdr_reader_left(&reader), 0);
        assert_false(xdr_reader_ok(&reader));
}

static void a_truncated_number_fails(void **state) {
        for (size_t size = 0; size < 8; size++) {
                CLEANUP(free_ptr) uint8_t *bytes = malloc(size);
                struct xdr_reader reader;

                if (size > 0)
                        memset(bytes, 0xff, size);
                xdr_reader_init(&reader, bytes, size);
                assert_true(xdr_read_u64(&reader) == 0);
                assert_false(xdr_reader_ok(&reader));
        }
}

static void a_bounded_number_is_accepted_up_to_its_maximum(void **state) {
        READ(0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5);

        assert_int_equal(xdr_read_at_most(&reader, 4), 0);
        assert_int_equal(xdr_read_at_most(&reader, 4), 4);
        assert_true(xdr_reader_ok(&reader));
        assert_int_equal(xdr_read_at_most(&reader, 4), 0);
        assert_false(xdr_reader_ok(&reader));
}

static void a_boolean_is_0_or_1(void **state) {
        READ(0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0);

        assert_false(xdr_read_bool(&reader));
        assert_true(xdr_read_bool(&reader));
        assert_true(xdr_reader_ok(&reader));
        assert_false(xdr_read_bool(&reader));
        assert_false(xdr_reader_ok(&reader));
}

/* Skips an opaque with this length in front of `room` bytes. Returns whether that succeeded, and what was left. */
static bool skips(uint32_t length, size_t room, size_t maximum, size_t *ret_left) {
        CLEANUP(free_ptr) uint8_t *bytes = malloc(4 + room);
        struct xdr_writer writer;
        struct xdr_reader reader;

        xdr_writer_init(&writer, bytes, 4);
        xdr_write_u32(&writer, length);
        memset(bytes + 4, 0xee, room);
        xdr_reader_init(&reader, bytes, 4 + room);
        xdr_skip_opaque(&reader, maximum);
        *ret_left = xdr_reader_left(&reader);
        return xdr_reader_ok(&reader);
}

static void an_opaque_is_skipped_with_its_padding(void **state) {
        static const struct {
                uint32_t length;
                size_t filled;
        } cases[] = {
                {0, 0}, {1, 4}, {2, 4}, {3, 4}, {4, 4}, {5, 8}, {397, 400}, {399, 400}, {400, 400},
        };
        size_t left;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_true(skips(cases[i].length, cases[i].filled, 400, &left));
                assert_int_equal(left, 0);
                assert_true(skips(cases[i].length, cases[i].filled + 3, 400, &left));
                assert_int_equal(left, 3);
                if (cases[i].filled > 0)
                        assert_false(skips(cases[i].length, cases[i].filled - 1, 400, &left));
        }
}

static void an_opaque_that_is_too_long_fails(void **state) {
        static const uint32_t lengths[] = {401, 404, 0x7fffffff, 0x80000000, 0xfffffffc, 0xfffffffd, 0xffffffff};
        size_t left;

        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
                assert_false(skips(lengths[i], 512, 400, &left));
                /* Without a limit: the bytes are missing, and rounding the length up must not overflow to 0. */
                if (lengths[i] > 512)
                        assert_false(skips(lengths[i], 512, SIZE_MAX, &left));
        }
}

static void a_string_is_read_back_as_written(void **state) {
        static const char text[] = "GPU-7f0c0e5c";

        for (size_t length = 0; length < sizeof(text); length++) {
                uint8_t bytes[32];
                char read[sizeof(text)];
                struct xdr_writer writer;
                struct xdr_reader reader;

                xdr_writer_init(&writer, bytes, sizeof(bytes));
                xdr_write_string(&writer, text, length);
                assert_true(xdr_writer_ok(&writer));
                assert_int_equal(xdr_writer_size(&writer), 4 + (length + 3) / 4 * 4);
                xdr_reader_init(&reader, bytes, xdr_writer_size(&writer));
                xdr_read_string(&reader, read, length + 1); /* fits exactly */
                assert_true(xdr_reader_ok(&reader));
                assert_int_equal(xdr_reader_left(&reader), 0);
                assert_int_equal(strlen(read), length);
                assert_memory_equal(read, text, length);
        }
}

static void a_string_that_does_not_fit_fails(void **state) {
        READ(0, 0, 0, 4, 'a', 'b', 'c', 'd');
        char text[4] = "xyz";

        xdr_read_string(&reader, text, sizeof(text));
        assert_false(xdr_reader_ok(&reader));
        assert_string_equal(text, "");
}

static void a_string_with_a_nul_fails(void **state) {
        READ(0, 0, 0, 3, 'a', 0, 'c', 0);
        char text[8] = "xyz";

        xdr_read_string(&reader, text, sizeof(text));
        assert_false(xdr_reader_ok(&reader));
        assert_string_equal(text, "");
}

static void a_string_padded_with_other_than_zeros_fails(void **state) {
        READ(0, 0, 0, 2, 'a', 'b', 0, 1);
        char text[8] = "xyz";

        xdr_read_string(&reader, text, sizeof(text));
        assert_false(xdr_reader_ok(&reader));
        assert_string_equal(text, "");
}

static void a_string_without_its_padding_fails(void **state) {
        READ(0, 0, 0, 2, 'a', 'b', 0);
        char text[8] = "xyz";

        xdr_read_string(&reader, text, sizeof(text));
        assert_false(xdr_reader_ok(&reader));
        assert_string_equal(text, "");
}

static void a_string_of_nearly_4_gib_fails(void **state) {
        READ(0xff, 0xff, 0xff, 0xfe, 'a', 'b', 'c', 'd');
        char text[8] = "xyz";

        xdr_read_string(&reader, text, sizeof(text));
        assert_false(xdr_reader_ok(&reader));
        assert_string_equal(text, "");
}

static void a_writer_can_fill_its_buffer_exactly(void **state) {
        static const uint8_t expected[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 'o', 'k', 0, 0};
        CLEANUP(free_ptr) uint8_t *bytes = malloc(sizeof(expected));
        struct xdr_writer writer;

        memset(bytes, 0xee, sizeof(expected));
        xdr_writer_init(&writer, bytes, sizeof(expected));
        xdr_write_i32(&writer, -1);
        xdr_write_u64(&writer, UINT64_C(1) << 32);
        xdr_write_string(&writer, "ok", 8);
        assert_true(xdr_writer_ok(&writer));
        assert_int_equal(xdr_writer_size(&writer), sizeof(expected));
        assert_memory_equal(bytes, expected, sizeof(expected));
}

static void after_an_error_a_writer_stays_failed(void **state) {
        CLEANUP(free_ptr) uint8_t *bytes = malloc(11);
        struct xdr_writer writer;

        memset(bytes, 0xee, 11);
        xdr_writer_init(&writer, bytes, 11);
        xdr_write_string(&writer, "too long", 8); /* the length fits, the text does not */
        assert_false(xdr_writer_ok(&writer));
        xdr_write_u32(&writer, 0); /* would fit */
        xdr_write_bool(&writer, true);
        assert_false(xdr_writer_ok(&writer));
        assert_int_equal(bytes[4], 0xee);
}

static void an_unterminated_string_is_written_up_to_its_size(void **state) {
        static const char unterminated[3] = {'a', 'b', 'c'};
        static const uint8_t expected[] = {0, 0, 0, 3, 'a', 'b', 'c', 0};
        uint8_t bytes[8];
        struct xdr_writer writer;

        xdr_writer_init(&writer, bytes, sizeof(bytes));
        xdr_write_string(&writer, unterminated, sizeof(unterminated));
        assert_true(xdr_writer_ok(&writer));
        assert_memory_equal(bytes, expected, sizeof(expected));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers_are_big_endian),
                cmocka_unit_test(numbers_are_read_at_any_alignment),
                cmocka_unit_test(after_an_error_a_reader_stays_failed),
                cmocka_unit_test(a_truncated_number_fails),
                cmocka_unit_test(a_bounded_number_is_accepted_up_to_its_maximum),
                cmocka_unit_test(a_boolean_is_0_or_1),
                cmocka_unit_test(an_opaque_is_skipped_with_its_padding),
                cmocka_unit_test(an_opaque_that_is_too_long_fails),
                cmocka_unit_test(a_string_is_read_back_as_written),
                cmocka_unit_test(a_string_that_does_not_fit_fails),
                cmocka_unit_test(a_string_with_a_nul_fails),
                cmocka_unit_test(a_string_padded_with_other_than_zeros_fails),
                cmocka_unit_test(a_string_without_its_padding_fails),
                cmocka_unit_test(a_string_of_nearly_4_gib_fails),
                cmocka_unit_test(a_writer_can_fill_its_buffer_exactly),
                cmocka_unit_test(after_an_error_a_writer_stays_failed),
                cmocka_unit_test(an_unterminated_string_is_written_up_to_its_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
