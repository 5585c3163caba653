/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/holdfast.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "tests/unit/gpus.h"
#include "tests/unit/hostile.h"

struct encoded {
        uint8_t bytes[HF_GPU_ENCODED_MAX];
        size_t size;
};

static struct encoded encode_gpu(const struct hf_gpu *gpu) {
        struct encoded encoded;
        struct xdr_writer writer;

        xdr_writer_init(&writer, encoded.bytes, sizeof(encoded.bytes));
        hf_gpu_encode(&writer, gpu);
        assert_true(xdr_writer_ok(&writer));
        encoded.size = xdr_writer_size(&writer);
        return encoded;
}

static struct encoded encode_head(const struct hf_list_head *head) {
        struct encoded encoded;
        struct xdr_writer writer;

        xdr_writer_init(&writer, encoded.bytes, sizeof(encoded.bytes));
        hf_list_head_encode(&writer, head);
        assert_true(xdr_writer_ok(&writer));
        encoded.size = xdr_writer_size(&writer);
        return encoded;
}

static bool decode_gpu(const uint8_t *bytes, size_t size, struct hf_gpu *ret_gpu) {
        struct xdr_reader reader;

        xdr_reader_init(&reader, bytes, size);
        hf_gpu_decode(&reader, ret_gpu);
        return xdr_reader_ok(&reader) && xdr_reader_left(&reader) == 0;
}

static bool decode_head(const uint8_t *bytes, size_t size, struct hf_list_head *ret_head) {
        struct xdr_reader reader;

        xdr_reader_init(&reader, bytes, size);
        hf_list_head_decode(&reader, ret_head);
        return xdr_reader_ok(&reader) && xdr_reader_left(&reader) == 0;
}

static void assert_strings_equal(const struct hf_gpu *a, const struct hf_gpu *b) {
        assert_string_equal(a->uuid, b->uuid);
        assert_string_equal(a->model, b->model);
        assert_string_equal(a->error_text, b->error_text);
        assert_string_equal(a->uvm_text, b->uvm_text);
}

static void assert_numbers_equal(const struct hf_gpu *a, const struct hf_gpu *b) {
        assert_memory_equal(&a->address, &b->address, sizeof(a->address));
        assert_int_equal(a->minor, b->minor);
        assert_int_equal(a->state, b->state);
        assert_int_equal(a->wanted, b->wanted);
        assert_true(a->since_realtime_usec == b->since_realtime_usec);
        assert_true(a->open_duration_usec == b->open_duration_usec);
        assert_int_equal(a->opens, b->opens);
        assert_int_equal(a->failures, b->failures);
        assert_int_equal(a->stuck, b->stuck);
        assert_int_equal(a->error_number, b->error_number);
        assert_int_equal(a->error_nv_status, b->error_nv_status);
        assert_int_equal(a->uvm, b->uvm);
        assert_int_equal(a->legacy_flag, b->legacy_flag);
        assert_int_equal(a->leased, b->leased);
}

static void a_gpu_is_read_back_as_written(void **state) {
        const struct hf_gpu gpus[] = {gpus_failed(), gpus_longest(), {.minor = 0}};

        for (size_t i = 0; i < ARRAY_SIZE(gpus); i++) {
                struct encoded encoded = encode_gpu(&gpus[i]);
                struct hf_gpu again;

                memset(&again, 0xee, sizeof(again));
                assert_true(decode_gpu(encoded.bytes, encoded.size, &again));
                assert_strings_equal(&again, &gpus[i]);
                assert_numbers_equal(&again, &gpus[i]);
        }
}

static void a_list_head_is_read_back_as_written(void **state) {
        struct hf_list_head head = gpus_head(HF_GPUS_MAX), again;
        struct encoded encoded = encode_head(&head);

        assert_true(decode_head(encoded.bytes, encoded.size, &again));
        assert_string_equal(again.version, head.version);
        assert_string_equal(again.backend, head.backend);
        assert_int_equal(again.pid, head.pid);
        assert_true(again.started_realtime_usec == head.started_realtime_usec);
        assert_true(again.ready);
        assert_true(again.serial == head.serial);
        assert_int_equal(again.n_gpus, HF_GPUS_MAX);
}

static void the_longest_gpu_and_list_head_have_exactly_the_maximum_size(void **state) {
        struct hf_gpu gpu = gpus_longest();
        struct hf_list_head head = gpus_head(1);

        memset(head.version, 'v', sizeof(head.version) - 1);
        memset(head.backend, 'b', sizeof(head.backend) - 1);
        assert_int_equal(encode_gpu(&gpu).size, HF_GPU_ENCODED_MAX);
        assert_int_equal(encode_head(&head).size, HF_LIST_HEAD_ENCODED_MAX);
}

static void unterminated_strings_are_cut(void **state) {
        struct hf_gpu gpu = gpus_failed(), again;
        struct encoded encoded;

        memset(gpu.error_text, 'e', sizeof(gpu.error_text));
        memset(gpu.model, 'm', sizeof(gpu.model));
        encoded = encode_gpu(&gpu);
        assert_true(decode_gpu(encoded.bytes, encoded.size, &again));
        assert_int_equal(strlen(again.error_text), HF_TEXT_SIZE - 1);
        assert_int_equal(strlen(again.model), HF_NAME_SIZE - 1);
}

static void a_value_out_of_range_is_refused(void **state) {
        struct hf_gpu cases[] = {gpus_failed(), gpus_failed(), gpus_failed()}, again;
        struct hf_list_head head = gpus_head(HF_GPUS_MAX + 1), head_again;
        struct encoded encoded = encode_head(&head);

        assert_false(decode_head(encoded.bytes, encoded.size, &head_again));
        cases[0].state = HF_GPU_FAILED + 1;
        cases[1].uvm = HF_UVM_ON + 1;
        cases[2].legacy_flag = HF_UNKNOWN + 1;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                encoded = encode_gpu(&cases[i]);
                assert_false(decode_gpu(encoded.bytes, encoded.size, &again));
        }
}

static void a_string_one_byte_too_long_is_refused(void **state) {
        char uuid[HF_NAME_SIZE];
        uint8_t bytes[4 * 5 + 4 + HF_NAME_SIZE] = {0};
        struct xdr_writer writer;
        struct xdr_reader reader;
        struct hf_gpu gpu;

        memset(uuid, 'u', sizeof(uuid));
        xdr_writer_init(&writer, bytes + 4 * 5, sizeof(bytes) - 4 * 5);
        xdr_write_string(&writer, uuid, HF_NAME_SIZE);
        assert_true(xdr_writer_ok(&writer));
        xdr_reader_init(&reader, bytes, sizeof(bytes));
        hf_gpu_decode(&reader, &gpu);
        assert_string_equal(gpu.uuid, "");
        assert_false(xdr_reader_ok(&reader));
}

static void judge_cut_gpu(const uint8_t *bytes, size_t size) {
        struct hf_gpu gpu;

        assert_false(decode_gpu(bytes, size, &gpu));
        assert_true(memchr(gpu.error_text, '\0', sizeof(gpu.error_text)));
}

/* Damaged bytes are refused, or decode to a GPU that encodes to the same bytes. */
static void judge_damaged_gpu(const uint8_t *bytes, size_t size) {
        struct encoded encoded;
        struct hf_gpu gpu;

        if (!decode_gpu(bytes, size, &gpu))
                return;
        encoded = encode_gpu(&gpu);
        assert_int_equal(encoded.size, size);
        assert_memory_equal(encoded.bytes, bytes, size);
}

static void judge_cut_head(const uint8_t *bytes, size_t size) {
        struct hf_list_head head;

        assert_false(decode_head(bytes, size, &head));
}

static void judge_damaged_head(const uint8_t *bytes, size_t size) {
        struct encoded encoded;
        struct hf_list_head head;

        if (!decode_head(bytes, size, &head))
                return;
        encoded = encode_head(&head);
        assert_int_equal(encoded.size, size);
        assert_memory_equal(encoded.bytes, bytes, size);
}

static void a_damaged_list_is_never_misread(void **state) {
        struct hf_gpu gpu = gpus_failed();
        struct hf_list_head head = gpus_head(8);
        struct encoded gpu_encoded = encode_gpu(&gpu), head_encoded = encode_head(&head);

        hostile_truncate(gpu_encoded.bytes, gpu_encoded.size, judge_cut_gpu);
        hostile_flip(gpu_encoded.bytes, gpu_encoded.size, judge_damaged_gpu);
        hostile_truncate(head_encoded.bytes, head_encoded.size, judge_cut_head);
        hostile_flip(head_encoded.bytes, head_encoded.size, judge_damaged_head);
}

/* ---- Configured ---- */

static struct encoded encode_configured(const struct hf_gpu_configured *gpu) {
        struct encoded encoded;
        struct xdr_writer writer;

        xdr_writer_init(&writer, encoded.bytes, sizeof(encoded.bytes));
        xdr_write_u32(&writer, 1);
        hf_gpu_configured_encode(&writer, gpu);
        assert_true(xdr_writer_ok(&writer));
        encoded.size = xdr_writer_size(&writer);
        return encoded;
}

/* Decodes a list of one GPU. */
static bool decode_configured(const uint8_t *bytes, size_t size, struct hf_gpu_configured *ret_gpu) {
        struct xdr_reader reader;
        uint32_t n_gpus;

        xdr_reader_init(&reader, bytes, size);
        n_gpus = hf_configured_decode_count(&reader);
        hf_gpu_configured_decode(&reader, ret_gpu);
        return xdr_reader_ok(&reader) && xdr_reader_left(&reader) == 0 && n_gpus == 1;
}

static void a_configured_gpu_is_read_back_as_written(void **state) {
        for (int persistence = 0; persistence <= 1; persistence++) {
                struct hf_gpu_configured gpu = gpus_configured(persistence == 1), again;
                struct encoded encoded = encode_configured(&gpu);

                assert_int_equal(encoded.size, 4 + HF_GPU_CONFIGURED_ENCODED_MAX);
                assert_true(decode_configured(encoded.bytes, encoded.size, &again));
                assert_memory_equal(&again.address, &gpu.address, sizeof(gpu.address));
                assert_int_equal(again.persistence, persistence);
                assert_int_equal(again.uvm_persistence, !persistence);
        }
}

static void judge_cut_configured(const uint8_t *bytes, size_t size) {
        struct hf_gpu_configured gpu;

        assert_false(decode_configured(bytes, size, &gpu));
}

static void judge_damaged_configured(const uint8_t *bytes, size_t size) {
        struct hf_gpu_configured gpu;
        struct encoded encoded;

        if (!decode_configured(bytes, size, &gpu))
                return;
        encoded = encode_configured(&gpu);
        assert_int_equal(encoded.size, size);
        assert_memory_equal(encoded.bytes, bytes, size);
}

static void a_damaged_configured_gpu_is_never_misread(void **state) {
        struct hf_gpu_configured gpu = gpus_configured(true);
        struct encoded encoded = encode_configured(&gpu);

        hostile_truncate(encoded.bytes, encoded.size, judge_cut_configured);
        hostile_flip(encoded.bytes, encoded.size, judge_damaged_configured);
}

static void more_configured_gpus_than_the_limit_are_refused(void **state) {
        uint8_t bytes[4];
        struct xdr_writer writer;
        struct xdr_reader reader;

        xdr_writer_init(&writer, bytes, sizeof(bytes));
        xdr_write_u32(&writer, HF_GPUS_MAX + 1);
        xdr_reader_init(&reader, bytes, sizeof(bytes));
        (void)hf_configured_decode_count(&reader);
        assert_false(xdr_reader_ok(&reader));
}

/* ---- Stats, and the head of Release's arguments ---- */

static struct encoded encode_stats(const struct hf_stats *stats) {
        struct encoded encoded;
        struct xdr_writer writer;

        xdr_writer_init(&writer, encoded.bytes, sizeof(encoded.bytes));
        hf_stats_encode(&writer, stats);
        assert_true(xdr_writer_ok(&writer));
        encoded.size = xdr_writer_size(&writer);
        return encoded;
}

static bool decode_stats(const uint8_t *bytes, size_t size, struct hf_stats *ret_stats) {
        struct xdr_reader reader;

        xdr_reader_init(&reader, bytes, size);
        hf_stats_decode(&reader, ret_stats);
        return xdr_reader_ok(&reader) && xdr_reader_left(&reader) == 0;
}

static struct encoded encode_release(const struct hf_release_head *head) {
        struct encoded encoded;
        struct xdr_writer writer;

        xdr_writer_init(&writer, encoded.bytes, sizeof(encoded.bytes));
        hf_release_head_encode(&writer, head);
        assert_true(xdr_writer_ok(&writer));
        encoded.size = xdr_writer_size(&writer);
        return encoded;
}

static bool decode_release(const uint8_t *bytes, size_t size, struct hf_release_head *ret_head) {
        struct xdr_reader reader;

        xdr_reader_init(&reader, bytes, size);
        hf_release_head_decode(&reader, ret_head);
        return xdr_reader_ok(&reader) && xdr_reader_left(&reader) == 0;
}

static void stats_are_read_back_as_written(void **state) {
        struct hf_stats stats = gpus_stats(), again;
        struct encoded encoded = encode_stats(&stats);

        assert_int_equal(encoded.size, 8 + 3 * 4 + 7 * 8);
        assert_true(decode_stats(encoded.bytes, encoded.size, &again));
        assert_true(again.started_realtime_usec == stats.started_realtime_usec);
        assert_int_equal(again.sessions, 2);
        assert_int_equal(again.sessions_max, 3);
        assert_int_equal(again.leases, 4);
        assert_true(again.accepted == stats.accepted);
        assert_int_equal(again.evicted, 6);
        assert_int_equal(again.expired, 7);
        assert_int_equal(again.malformed, 8);
        assert_int_equal(again.calls, 9);
        assert_int_equal(again.rejected, 10);
        assert_int_equal(again.refused, 11);
}

static void a_release_head_is_read_back_as_written(void **state) {
        static const struct hf_release_head heads[] = {{.all = true}, {.n_gpus = 1}, {.n_gpus = HF_GPUS_MAX}};

        for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
                struct encoded encoded = encode_release(&heads[i]);
                struct hf_release_head again;

                assert_true(decode_release(encoded.bytes, encoded.size, &again));
                assert_int_equal(again.all, heads[i].all);
                assert_int_equal(again.n_gpus, heads[i].n_gpus);
        }
}

static void a_release_head_with_too_many_gpus_or_an_invalid_boolean_is_refused(void **state) {
        struct hf_release_head head = {.n_gpus = HF_GPUS_MAX + 1}, again;
        struct encoded encoded = encode_release(&head);

        assert_false(decode_release(encoded.bytes, encoded.size, &again));
        head.n_gpus = 1;
        encoded = encode_release(&head);
        encoded.bytes[3] = 2; /* `all`, a boolean */
        assert_false(decode_release(encoded.bytes, encoded.size, &again));
}

static void judge_cut_stats(const uint8_t *bytes, size_t size) {
        struct hf_stats stats;

        assert_false(decode_stats(bytes, size, &stats));
}

static void judge_damaged_stats(const uint8_t *bytes, size_t size) {
        struct encoded encoded;
        struct hf_stats stats;

        assert_true(decode_stats(bytes, size, &stats)); /* every value is valid */
        encoded = encode_stats(&stats);
        assert_int_equal(encoded.size, size);
        assert_memory_equal(encoded.bytes, bytes, size);
}

static void judge_cut_release(const uint8_t *bytes, size_t size) {
        struct hf_release_head head;

        assert_false(decode_release(bytes, size, &head));
}

static void judge_damaged_release(const uint8_t *bytes, size_t size) {
        struct hf_release_head head;
        struct encoded encoded;

        if (!decode_release(bytes, size, &head))
                return;
        encoded = encode_release(&head);
        assert_int_equal(encoded.size, size);
        assert_memory_equal(encoded.bytes, bytes, size);
}

static void damaged_stats_or_release_heads_are_never_misread(void **state) {
        struct hf_stats stats = gpus_stats();
        struct hf_release_head head = {.n_gpus = 8};
        struct encoded stats_encoded = encode_stats(&stats), release_encoded = encode_release(&head);

        hostile_truncate(stats_encoded.bytes, stats_encoded.size, judge_cut_stats);
        hostile_flip(stats_encoded.bytes, stats_encoded.size, judge_damaged_stats);
        hostile_truncate(release_encoded.bytes, release_encoded.size, judge_cut_release);
        hostile_flip(release_encoded.bytes, release_encoded.size, judge_damaged_release);
}

static void every_state_has_a_name(void **state) {
        assert_string_equal(hf_gpu_state_name(HF_GPU_RELEASED), "released");
        assert_string_equal(hf_gpu_state_name(HF_GPU_OPENING), "opening");
        assert_string_equal(hf_gpu_state_name(HF_GPU_HELD), "held");
        assert_string_equal(hf_gpu_state_name(HF_GPU_CLOSING), "closing");
        assert_string_equal(hf_gpu_state_name(HF_GPU_FAILED), "failed");
        assert_string_equal(hf_gpu_state_name(HF_GPU_FAILED + 1), "?");
        assert_string_equal(hf_gpu_state_name(UINT32_MAX), "?");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_gpu_is_read_back_as_written),
                cmocka_unit_test(a_list_head_is_read_back_as_written),
                cmocka_unit_test(the_longest_gpu_and_list_head_have_exactly_the_maximum_size),
                cmocka_unit_test(unterminated_strings_are_cut),
                cmocka_unit_test(a_value_out_of_range_is_refused),
                cmocka_unit_test(a_string_one_byte_too_long_is_refused),
                cmocka_unit_test(a_damaged_list_is_never_misread),
                cmocka_unit_test(a_configured_gpu_is_read_back_as_written),
                cmocka_unit_test(a_damaged_configured_gpu_is_never_misread),
                cmocka_unit_test(more_configured_gpus_than_the_limit_are_refused),
                cmocka_unit_test(stats_are_read_back_as_written),
                cmocka_unit_test(a_release_head_is_read_back_as_written),
                cmocka_unit_test(a_release_head_with_too_many_gpus_or_an_invalid_boolean_is_refused),
                cmocka_unit_test(damaged_stats_or_release_heads_are_never_misread),
                cmocka_unit_test(every_state_has_a_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
