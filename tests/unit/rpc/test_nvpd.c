/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/nvpd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "rpc/record.h"
#include "tests/unit/hostile.h"

/* What NVML sends to ask for GPU 0000:17:00.0: a record of 56 bytes (60 with its header), in words of four bytes. */
static const uint8_t get_call[] = {
        0x80, 0, 0,    0x38,                /* last fragment, 56 bytes */
        0x12, 0, 0x34, 0x56,                /* xid */
        0,    0, 0,    0,    0, 0, 0, 2,    /* call, RPC version 2 */
        0,    0, 0x88, 0xbe, 0, 0, 0, 1,    /* program 35006, version 1 */
        0,    0, 0,    2,                   /* procedure 2, GetPersistenceMode */
        0,    0, 0,    0,    0, 0, 0, 0,    /* credentials: AUTH_NONE */
        0,    0, 0,    0,    0, 0, 0, 0,    /* verifier: AUTH_NONE */
        0,    0, 0,    0,    0, 0, 0, 0x17, /* domain, bus */
        0,    0, 0,    0,    0, 0, 0, 0,    /* slot, function */
};

/* The answer "enabled": 8 words behind the record's header. */
static const uint8_t get_reply[] = {
        0x80, 0, 0,    0x20,                /* last fragment, 32 bytes */
        0x12, 0, 0x34, 0x56,                /* xid */
        0,    0, 0,    1,    0, 0, 0, 0,    /* reply, accepted */
        0,    0, 0,    0,    0, 0, 0, 0,    /* verifier: AUTH_NONE */
        0,    0, 0,    0,                   /* success */
        0,    0, 0,    0,    0, 0, 0, 0x01, /* status SUCCESS, mode enabled */
};

static const uint8_t set_args[] = {
        0, 0, 0, 1,                /* domain */
        0, 0, 0, 0xaf, 0, 0, 0, 3, /* bus, slot */
        0, 0, 0, 7,                /* function */
        0, 0, 0, 1,                /* enabled */
};

static void assert_get_call(struct xdr_reader *reader, const struct rpc_call *call) {
        struct nvpd_device device;

        assert_int_equal(call->xid, 0x12003456);
        assert_int_equal(call->program, NVPD_PROGRAM);
        assert_int_equal(call->version, NVPD_VERSION_1);
        assert_int_equal(call->procedure, NVPD_GET_PERSISTENCE_MODE);
        nvpd_device_decode(reader, &device);
        assert_true(xdr_reader_ok(reader));
        assert_int_equal(xdr_reader_left(reader), 0);
        assert_int_equal(device.domain, 0);
        assert_int_equal(device.bus, 0x17);
        assert_int_equal(device.slot, 0);
        assert_int_equal(device.function, 0);
}

static void the_call_of_nvml_is_understood(void **state) {
        struct record_reader record;
        struct xdr_reader reader;
        struct rpc_call call;
        uint8_t buffer[64];
        size_t used;

        record_reader_init(&record, buffer, sizeof(buffer));
        assert_int_equal(record_reader_feed(&record, get_call, sizeof(get_call), &used), RECORD_COMPLETE);
        assert_int_equal(record.length, 56);
        xdr_reader_init(&reader, record.buffer, record.length);
        assert_int_equal(rpc_call_decode(&reader, &call), RPC_CALL_OK);
        assert_get_call(&reader, &call);
}

static void our_call_has_the_same_bytes_as_that_of_nvml(void **state) {
        struct rpc_call call = {
                .xid = 0x12003456,
                .program = NVPD_PROGRAM,
                .version = NVPD_VERSION_1,
                .procedure = NVPD_GET_PERSISTENCE_MODE,
        };
        struct nvpd_device device = {.bus = 0x17};
        uint8_t bytes[sizeof(get_call)];
        struct xdr_writer writer;

        xdr_writer_init(&writer, bytes + RECORD_HEADER_SIZE, sizeof(bytes) - RECORD_HEADER_SIZE);
        rpc_call_encode(&writer, &call);
        nvpd_device_encode(&writer, &device);
        assert_true(xdr_writer_ok(&writer));
        record_header_encode(bytes, (uint32_t)xdr_writer_size(&writer));
        assert_memory_equal(bytes, get_call, sizeof(get_call));
}

static void the_answer_has_eight_words(void **state) {
        struct nvpd_get_result result = {.status = NVPD_SUCCESS, .mode = NVPD_MODE_ENABLED};
        uint8_t bytes[sizeof(get_reply)];
        struct xdr_writer writer;

        xdr_writer_init(&writer, bytes + RECORD_HEADER_SIZE, sizeof(bytes) - RECORD_HEADER_SIZE);
        rpc_encode_accepted(&writer, 0x12003456, RPC_SUCCESS);
        nvpd_get_result_encode(&writer, &result);
        assert_true(xdr_writer_ok(&writer));
        record_header_encode(bytes, (uint32_t)xdr_writer_size(&writer));
        assert_memory_equal(bytes, get_reply, sizeof(get_reply));
}

static void the_answer_is_decoded(void **state) {
        struct nvpd_get_result result;
        struct xdr_reader reader;
        struct rpc_reply reply;

        xdr_reader_init(&reader, get_reply + RECORD_HEADER_SIZE, sizeof(get_reply) - RECORD_HEADER_SIZE);
        assert_int_equal(rpc_reply_decode(&reader, &reply), 0);
        nvpd_get_result_decode(&reader, &result);
        assert_true(xdr_reader_ok(&reader));
        assert_int_equal(result.status, NVPD_SUCCESS);
        assert_int_equal(result.mode, NVPD_MODE_ENABLED);
}

static void a_failure_is_sent_without_a_mode(void **state) {
        struct nvpd_get_result result = {.status = NVPD_DEVICE_NOT_FOUND, .mode = NVPD_MODE_ENABLED};
        struct nvpd_get_result again;
        uint8_t bytes[8];
        struct xdr_writer writer;
        struct xdr_reader reader;

        xdr_writer_init(&writer, bytes, sizeof(bytes));
        nvpd_get_result_encode(&writer, &result);
        assert_int_equal(xdr_writer_size(&writer), 4);
        xdr_reader_init(&reader, bytes, 4);
        nvpd_get_result_decode(&reader, &again);
        assert_true(xdr_reader_ok(&reader));
        assert_int_equal(again.status, NVPD_DEVICE_NOT_FOUND);
        assert_int_equal(again.mode, NVPD_MODE_DISABLED);
}

static void the_arguments_of_set_are_five_words(void **state) {
        struct nvpd_set_args args;
        struct xdr_reader reader;
        uint8_t bytes[sizeof(set_args)];
        struct xdr_writer writer;

        xdr_reader_init(&reader, set_args, sizeof(set_args));
        nvpd_set_args_decode(&reader, &args);
        assert_true(xdr_reader_ok(&reader));
        assert_int_equal(args.device.domain, 1);
        assert_int_equal(args.device.bus, 0xaf);
        assert_int_equal(args.device.slot, 3);
        assert_int_equal(args.device.function, 7);
        assert_int_equal(args.value, NVPD_MODE_ENABLED);
        xdr_writer_init(&writer, bytes, sizeof(bytes));
        nvpd_set_args_encode(&writer, &args);
        assert_true(xdr_writer_ok(&writer));
        assert_memory_equal(bytes, set_args, sizeof(set_args));
}

static void set_arguments_are_decoded_without_a_check_of_their_range(void **state) {
        static const uint8_t bytes[] = {0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
        struct nvpd_set_args args;
        struct xdr_reader reader;

        xdr_reader_init(&reader, bytes, sizeof(bytes));
        nvpd_set_args_decode(&reader, &args);
        assert_true(xdr_reader_ok(&reader));
        assert_int_equal(args.value, -1);
}

static void bytes_behind_the_arguments_are_left_to_the_caller(void **state) {
        uint8_t bytes[sizeof(set_args) + 5] = {0};
        struct nvpd_set_args args;
        struct xdr_reader reader;

        memcpy(bytes, set_args, sizeof(set_args));
        xdr_reader_init(&reader, bytes, sizeof(bytes));
        nvpd_set_args_decode(&reader, &args);
        assert_true(xdr_reader_ok(&reader));
        assert_int_equal(xdr_reader_left(&reader), 5);
}

static void judge_cut_args(const uint8_t *bytes, size_t size) {
        struct nvpd_set_args args;
        struct xdr_reader reader;

        xdr_reader_init(&reader, bytes, size);
        nvpd_set_args_decode(&reader, &args);
        assert_false(xdr_reader_ok(&reader));
}

static void judge_damaged_args(const uint8_t *bytes, size_t size) {
        uint8_t again[sizeof(set_args)];
        struct nvpd_set_args args;
        struct xdr_reader reader;
        struct xdr_writer writer;

        xdr_reader_init(&reader, bytes, size);
        nvpd_set_args_decode(&reader, &args);
        assert_true(xdr_reader_ok(&reader));
        xdr_writer_init(&writer, again, sizeof(again));
        nvpd_set_args_encode(&writer, &args);
        assert_memory_equal(again, bytes, size);
}

static void judge_cut_result(const uint8_t *bytes, size_t size) {
        struct nvpd_get_result result;
        struct xdr_reader reader;

        xdr_reader_init(&reader, bytes, size);
        nvpd_get_result_decode(&reader, &result);
        assert_false(xdr_reader_ok(&reader));
}

static void judge_damaged_result(const uint8_t *bytes, size_t size) {
        struct nvpd_get_result result;
        struct xdr_reader reader;
        struct xdr_writer writer;
        uint8_t again[8];

        xdr_reader_init(&reader, bytes, size);
        nvpd_get_result_decode(&reader, &result);
        assert_true(xdr_reader_ok(&reader));
        xdr_writer_init(&writer, again, sizeof(again));
        nvpd_get_result_encode(&writer, &result);
        assert_int_equal(xdr_writer_size(&writer), size - xdr_reader_left(&reader));
        assert_memory_equal(again, bytes, xdr_writer_size(&writer));
}

static void damaged_arguments_and_results_are_never_misread(void **state) {
        static const size_t header_size = RECORD_HEADER_SIZE + 24; /* of get_reply */

        hostile_truncate(set_args, sizeof(set_args), judge_cut_args);
        hostile_flip(set_args, sizeof(set_args), judge_damaged_args);
        hostile_truncate(get_reply + header_size, sizeof(get_reply) - header_size, judge_cut_result);
        hostile_flip(get_reply + header_size, sizeof(get_reply) - header_size, judge_damaged_result);
}

static void every_status_has_a_text(void **state) {
        for (uint32_t status = NVPD_SUCCESS; status <= NVPD_UNKNOWN; status++)
                assert_string_not_equal(nvpd_status_text(status), "?");
        assert_string_equal(nvpd_status_text(UINT32_MAX), "?");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_call_of_nvml_is_understood),
                cmocka_unit_test(our_call_has_the_same_bytes_as_that_of_nvml),
                cmocka_unit_test(the_answer_has_eight_words),
                cmocka_unit_test(the_answer_is_decoded),
                cmocka_unit_test(a_failure_is_sent_without_a_mode),
                cmocka_unit_test(the_arguments_of_set_are_five_words),
                cmocka_unit_test(set_arguments_are_decoded_without_a_check_of_their_range),
                cmocka_unit_test(bytes_behind_the_arguments_are_left_to_the_caller),
                cmocka_unit_test(damaged_arguments_and_results_are_never_misread),
                cmocka_unit_test(every_status_has_a_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
