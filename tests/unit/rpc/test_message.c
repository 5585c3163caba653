/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/unit/hostile.h"

enum {
        CALL_SIZE = 40, /* ten words */
        WORDS_MAX = 256,
};

/* A message as 32-bit words, as in the standard's figures. */
struct words {
        uint8_t bytes[WORDS_MAX * 4];
        size_t size;
};

static struct words words_of(const uint32_t *values, size_t count) {
        struct words words = {.size = count * 4};

        assert_true(count <= WORDS_MAX);
        for (size_t i = 0; i < count; i++) {
                uint32_t word = htonl(values[i]);

                memcpy(words.bytes + i * 4, &word, sizeof(word));
        }
        return words;
}

#define WORDS(...) words_of((const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

static int decode_call(const struct words *words, struct rpc_call *ret_call, size_t *ret_left) {
        struct xdr_reader reader;
        int r;

        xdr_reader_init(&reader, words->bytes, words->size);
        r = rpc_call_decode(&reader, ret_call);
        *ret_left = xdr_reader_left(&reader);
        return r;
}

static void a_call_header_is_ten_words(void **state) {
        struct words expected = WORDS(0xabcd, 0, 2, 35006, 1, 2, 0, 0, 0, 0);
        struct rpc_call call = {.xid = 0xabcd, .program = 35006, .version = 1, .procedure = 2};
        uint8_t bytes[CALL_SIZE];
        struct xdr_writer writer;

        xdr_writer_init(&writer, bytes, sizeof(bytes));
        rpc_call_encode(&writer, &call);
        assert_true(xdr_writer_ok(&writer));
        assert_int_equal(xdr_writer_size(&writer), CALL_SIZE);
        assert_memory_equal(bytes, expected.bytes, CALL_SIZE);
}

static void a_decoded_call_leaves_the_reader_at_the_arguments(void **state) {
        struct words words = WORDS(7, 0, 2, 35006, 2, 1, 0, 0, 0, 0, 0x17, 1);
        struct rpc_call call;
        size_t left;

        assert_int_equal(decode_call(&words, &call, &left), RPC_CALL_OK);
        assert_int_equal(left, 8);
        assert_int_equal(call.xid, 7);
        assert_int_equal(call.program, 35006);
        assert_int_equal(call.version, 2);
        assert_int_equal(call.procedure, 1);
}

/* Decodes a call with credentials of this length and the verifier AUTH_NONE. */
static int decode_with_credentials(uint32_t flavour, uint32_t length) {
        uint32_t values[WORDS_MAX] = {1, 0, 2, 35006, 1, 2, flavour, length};
        size_t body_words = (length + 3) / 4;
        struct rpc_call call;
        struct words words;
        size_t left;

        assert_true(10 + body_words <= WORDS_MAX);
        memset(values + 8, 0xee, body_words * 4);
        words = words_of(values, 10 + body_words);
        return decode_call(&words, &call, &left);
}

static void credentials_of_any_flavour_are_skipped(void **state) {
        assert_int_equal(decode_with_credentials(1, 24), RPC_CALL_OK); /* AUTH_SYS */
        assert_int_equal(decode_with_credentials(6, 20), RPC_CALL_OK); /* RPCSEC_GSS */
        assert_int_equal(decode_with_credentials(0xffffffff, 3), RPC_CALL_OK);
}

static void credentials_may_have_at_most_400_bytes(void **state) {
        assert_int_equal(decode_with_credentials(1, 400), RPC_CALL_OK);
        assert_int_equal(decode_with_credentials(1, 401), -EBADMSG);
        assert_int_equal(decode_with_credentials(1, 404), -EBADMSG);
}

static void credentials_of_nearly_4_gib_are_refused(void **state) {
        static const uint32_t lengths[] = {0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff};

        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
                struct words credentials = WORDS(1, 0, 2, 35006, 1, 2, 1, lengths[i], 0, 0, 0, 0);
                struct words verifier = WORDS(1, 0, 2, 35006, 1, 2, 0, 0, 0, lengths[i], 0, 0);
                struct rpc_call call;
                size_t left;

                assert_int_equal(decode_call(&credentials, &call, &left), -EBADMSG);
                assert_int_equal(decode_call(&verifier, &call, &left), -EBADMSG);
        }
}

static void another_rpc_version_is_recognised_from_the_first_three_words(void **state) {
        static const uint32_t versions[] = {0, 1, 3, 0xffffffff};

        for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
                struct words words = WORDS(99, 0, versions[i]);
                struct rpc_call call;
                size_t left;

                assert_int_equal(decode_call(&words, &call, &left), RPC_CALL_VERSION_MISMATCH);
                assert_int_equal(call.xid, 99);
        }
}

static void a_reply_is_not_taken_for_a_call(void **state) {
        struct words words = WORDS(7, 1, 2, 35006, 1, 2, 0, 0, 0, 0);
        struct rpc_call call = {.xid = 0xdead};
        size_t left;

        assert_int_equal(decode_call(&words, &call, &left), -EBADMSG);
        assert_int_equal(call.xid, 0xdead); /* unchanged on failure */
}

/* Decodes a call that may be cut or damaged. Returns what rpc_call_decode() returns. */
static int call_outcome(const uint8_t *bytes, size_t size, struct rpc_call *ret_call, size_t *ret_left) {
        struct xdr_reader reader;
        int r;

        xdr_reader_init(&reader, bytes, size);
        r = rpc_call_decode(&reader, ret_call);
        *ret_left = xdr_reader_left(&reader);
        return r;
}

static void judge_cut_call(const uint8_t *bytes, size_t size) {
        struct rpc_call call;
        size_t left;

        assert_int_equal(call_outcome(bytes, size, &call, &left), -EBADMSG);
}

/*
 * A damaged call is refused, or decodes to a call that encodes to the same bytes. Only the flavours are copied, because
 * the decoder skips them.
 */
static void judge_damaged_call(const uint8_t *bytes, size_t size) {
        uint8_t again[CALL_SIZE];
        struct xdr_writer writer;
        struct rpc_call call;
        size_t left;
        int r = call_outcome(bytes, size, &call, &left);

        if (r != RPC_CALL_OK) {
                assert_true(r == -EBADMSG || (r == RPC_CALL_VERSION_MISMATCH && call.xid == 7));
                return;
        }
        assert_int_equal(left, 0);
        xdr_writer_init(&writer, again, sizeof(again));
        rpc_call_encode(&writer, &call);
        memcpy(again + 24, bytes + 24, 4); /* flavour of the credentials */
        memcpy(again + 32, bytes + 32, 4); /* and of the verifier */
        assert_memory_equal(again, bytes, CALL_SIZE);
}

static void a_damaged_call_is_never_misread(void **state) {
        struct words words = WORDS(7, 0, 2, 35006, 1, 2, 0, 0, 0, 0);

        hostile_truncate(words.bytes, words.size, judge_cut_call);
        hostile_flip(words.bytes, words.size, judge_damaged_call);
}

typedef void encode_reply(struct xdr_writer *writer);

static void success(struct xdr_writer *writer) {
        rpc_encode_accepted(writer, 7, RPC_SUCCESS);
}

static void program_unavailable(struct xdr_writer *writer) {
        rpc_encode_accepted(writer, 7, RPC_PROG_UNAVAIL);
}

static void program_mismatch(struct xdr_writer *writer) {
        rpc_encode_program_mismatch(writer, 7, 1, 2);
}

static void procedure_unavailable(struct xdr_writer *writer) {
        rpc_encode_accepted(writer, 7, RPC_PROC_UNAVAIL);
}

static void garbage_arguments(struct xdr_writer *writer) {
        rpc_encode_accepted(writer, 7, RPC_GARBAGE_ARGS);
}

static void system_error(struct xdr_writer *writer) {
        rpc_encode_accepted(writer, 7, RPC_SYSTEM_ERR);
}

static void version_mismatch(struct xdr_writer *writer) {
        rpc_encode_version_mismatch(writer, 7);
}

static const struct {
        encode_reply *encode;
        uint32_t words[8];
        size_t count;
} replies[] = {
        {success, {7, 1, 0, 0, 0, 0}, 6},
        {program_unavailable, {7, 1, 0, 0, 0, 1}, 6},
        {program_mismatch, {7, 1, 0, 0, 0, 2, 1, 2}, 8},
        {procedure_unavailable, {7, 1, 0, 0, 0, 3}, 6},
        {garbage_arguments, {7, 1, 0, 0, 0, 4}, 6},
        {system_error, {7, 1, 0, 0, 0, 5}, 6},
        {version_mismatch, {7, 1, 1, 0, 2, 2}, 6},
};

static void replies_have_the_words_that_the_standard_defines(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
                struct words expected = words_of(replies[i].words, replies[i].count);
                uint8_t bytes[32];
                struct xdr_writer writer;

                xdr_writer_init(&writer, bytes, sizeof(bytes));
                replies[i].encode(&writer);
                assert_true(xdr_writer_ok(&writer));
                assert_int_equal(xdr_writer_size(&writer), expected.size);
                assert_memory_equal(bytes, expected.bytes, expected.size);
        }
}

static int decode_reply(const uint8_t *bytes, size_t size, struct rpc_reply *ret_reply, size_t *ret_left) {
        struct xdr_reader reader;
        int r;

        xdr_reader_init(&reader, bytes, size);
        r = rpc_reply_decode(&reader, ret_reply);
        *ret_left = xdr_reader_left(&reader);
        return r;
}

static void replies_are_read_back(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
                struct words words = words_of(replies[i].words, replies[i].count);
                bool denied = replies[i].words[2] == 1;
                struct rpc_reply reply;
                size_t left;

                assert_int_equal(decode_reply(words.bytes, words.size, &reply, &left), 0);
                assert_int_equal(left, 0);
                assert_int_equal(reply.xid, 7);
                assert_int_equal(reply.denied, denied);
                if (!denied)
                        assert_int_equal(reply.accept_status, replies[i].words[5]);
                if (!denied && reply.accept_status == RPC_PROG_MISMATCH) {
                        assert_int_equal(reply.low, 1);
                        assert_int_equal(reply.high, 2);
                }
        }
}

static void an_authentication_error_is_read_as_a_denial(void **state) {
        struct words words = WORDS(7, 1, 1, 1, 5);
        struct rpc_reply reply;
        size_t left;

        assert_int_equal(decode_reply(words.bytes, words.size, &reply, &left), 0);
        assert_true(reply.denied);
        assert_int_equal(left, 0);
}

static void a_verifier_in_a_reply_is_skipped(void **state) {
        struct words words = WORDS(7, 1, 0, 1, 5, 0xeeeeeeee, 0xee000000, 0, 0x2a);
        struct rpc_reply reply;
        size_t left;

        assert_int_equal(decode_reply(words.bytes, words.size, &reply, &left), 0);
        assert_int_equal(reply.accept_status, RPC_SUCCESS);
        assert_int_equal(left, 4);
}

static void invalid_replies_are_refused(void **state) {
        struct words cases[] = {
                WORDS(7, 0, 0, 0, 0, 0),    /* a call */
                WORDS(7, 2, 0, 0, 0, 0),    /* neither a call nor a reply */
                WORDS(7, 1, 2, 0, 0, 0),    /* neither accepted nor denied */
                WORDS(7, 1, 0, 0, 0, 6),    /* an unknown accept status */
                WORDS(7, 1, 1, 2, 0, 0),    /* an unknown reason for the denial */
                WORDS(7, 1, 0, 0, 0, 2, 1), /* without the highest version */
                WORDS(7, 1, 0, 0, 404, 0),  WORDS(7, 1, 0, 0, 0xffffffff, 0),
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct rpc_reply reply = {.xid = 0xdead};
                size_t left;

                assert_int_equal(decode_reply(cases[i].bytes, cases[i].size, &reply, &left), -EBADMSG);
                assert_int_equal(reply.xid, 0xdead);
        }
}

static void judge_cut_reply(const uint8_t *bytes, size_t size) {
        struct rpc_reply reply;
        size_t left;

        assert_int_equal(decode_reply(bytes, size, &reply, &left), -EBADMSG);
}

static bool has_verifier(const uint8_t *bytes) {
        static const uint8_t no_length[4];

        return memcmp(bytes + 16, no_length, sizeof(no_length)) != 0;
}

/*
 * A damaged reply is refused, or is a denial, or decodes to an accepted reply that encodes to the same bytes. The
 * verifier and its flavour are not compared, because the decoder skips them.
 */
static void judge_damaged_reply(const uint8_t *bytes, size_t size) {
        uint8_t again[32];
        struct xdr_writer writer;
        struct rpc_reply reply;
        size_t left;
        int r = decode_reply(bytes, size, &reply, &left);

        if (r < 0) {
                assert_int_equal(r, -EBADMSG);
                return;
        }
        if (reply.denied || has_verifier(bytes))
                return;
        xdr_writer_init(&writer, again, sizeof(again));
        if (reply.accept_status == RPC_PROG_MISMATCH)
                rpc_encode_program_mismatch(&writer, reply.xid, reply.low, reply.high);
        else
                rpc_encode_accepted(&writer, reply.xid, reply.accept_status);
        assert_int_equal(xdr_writer_size(&writer), size - left);
        memcpy(again + 12, bytes + 12, 4);
        assert_memory_equal(again, bytes, size - left);
}

static void a_damaged_reply_is_never_misread(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
                struct words words = words_of(replies[i].words, replies[i].count);

                hostile_truncate(words.bytes, words.size, judge_cut_reply);
                hostile_flip(words.bytes, words.size, judge_damaged_reply);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_call_header_is_ten_words),
                cmocka_unit_test(a_decoded_call_leaves_the_reader_at_the_arguments),
                cmocka_unit_test(credentials_of_any_flavour_are_skipped),
                cmocka_unit_test(credentials_may_have_at_most_400_bytes),
                cmocka_unit_test(credentials_of_nearly_4_gib_are_refused),
                cmocka_unit_test(another_rpc_version_is_recognised_from_the_first_three_words),
                cmocka_unit_test(a_reply_is_not_taken_for_a_call),
                cmocka_unit_test(a_damaged_call_is_never_misread),
                cmocka_unit_test(replies_have_the_words_that_the_standard_defines),
                cmocka_unit_test(replies_are_read_back),
                cmocka_unit_test(an_authentication_error_is_read_as_a_denial),
                cmocka_unit_test(a_verifier_in_a_reply_is_skipped),
                cmocka_unit_test(invalid_replies_are_refused),
                cmocka_unit_test(a_damaged_reply_is_never_misread),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
