/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Our codec and that of rpcgen and libtirpc: each decodes what the other encodes, and both encode to the same bytes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "rpc/holdfast.h"
#include "rpc/nvpd.h"
#include "tests/peer/reference.h"
#include "tests/unit/gpus.h"

static void calls_have_the_same_header(void **state) {
        struct rpc_call call = {.xid = 0xfedcba98, .program = NVPD_PROGRAM, .version = 2, .procedure = 1};
        uint8_t ours[64], theirs[64];
        struct xdr_writer writer;
        size_t size =
                reference_encode_call(call.xid, call.program, call.version, call.procedure, theirs, sizeof(theirs));

        xdr_writer_init(&writer, ours, sizeof(ours));
        rpc_call_encode(&writer, &call);
        assert_int_equal(xdr_writer_size(&writer), size);
        assert_memory_equal(ours, theirs, size);
}

static void assert_reply(struct xdr_writer *writer, uint32_t denied, uint32_t status, uint32_t low, uint32_t high) {
        uint32_t words[4], xid = 0;

        assert_true(xdr_writer_ok(writer));
        assert_true(reference_decode_reply(writer->start, xdr_writer_size(writer), &xid, words));
        assert_int_equal(xid, 0x89abcdef);
        assert_int_equal(words[0], denied);
        assert_int_equal(words[1], status);
        assert_int_equal(words[2], low);
        assert_int_equal(words[3], high);
}

static void replies_mean_the_same(void **state) {
        static const enum rpc_accept_status statuses[] = {
                RPC_SUCCESS, RPC_PROG_UNAVAIL, RPC_PROC_UNAVAIL, RPC_GARBAGE_ARGS, RPC_SYSTEM_ERR,
        };
        struct xdr_writer writer;
        uint8_t bytes[64];

        for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
                xdr_writer_init(&writer, bytes, sizeof(bytes));
                rpc_encode_accepted(&writer, 0x89abcdef, statuses[i]);
                assert_reply(&writer, 0, statuses[i], 0, 0);
        }
        xdr_writer_init(&writer, bytes, sizeof(bytes));
        rpc_encode_program_mismatch(&writer, 0x89abcdef, 1, 2);
        assert_reply(&writer, 0, RPC_PROG_MISMATCH, 1, 2);
        xdr_writer_init(&writer, bytes, sizeof(bytes));
        rpc_encode_version_mismatch(&writer, 0x89abcdef);
        assert_reply(&writer, 1, 0, 2, 2);
}

static void arguments_of_set_are_the_same(void **state) {
        static const int32_t values[5] = {0x10000, 0xaf, 3, 7, -1};
        struct nvpd_set_args args = {.device = {0x10000, 0xaf, 3, 7}, .value = -1};
        uint8_t ours[20], theirs[20];
        struct xdr_writer writer;
        int32_t read[5];

        xdr_writer_init(&writer, ours, sizeof(ours));
        nvpd_set_args_encode(&writer, &args);
        assert_int_equal(reference_encode_setting(values, theirs, sizeof(theirs)), sizeof(theirs));
        assert_memory_equal(ours, theirs, sizeof(theirs));
        assert_true(reference_decode_setting(ours, sizeof(ours), read));
        assert_memory_equal(read, values, sizeof(values));
}

static void results_of_get_are_the_same(void **state) {
        for (uint32_t status = NVPD_SUCCESS; status <= NVPD_UNKNOWN; status++) {
                struct nvpd_get_result result = {.status = status, .mode = NVPD_MODE_ENABLED};
                uint32_t read_status = UINT32_MAX, read_mode = UINT32_MAX;
                uint8_t ours[8], theirs[8];
                struct xdr_writer writer;
                size_t size = reference_encode_mode(status, NVPD_MODE_ENABLED, theirs, sizeof(theirs));

                xdr_writer_init(&writer, ours, sizeof(ours));
                nvpd_get_result_encode(&writer, &result);
                assert_int_equal(xdr_writer_size(&writer), size);
                assert_memory_equal(ours, theirs, size);
                assert_true(reference_decode_mode(ours, size, &read_status, &read_mode));
                assert_int_equal(read_status, status);
                assert_int_equal(read_mode, status == NVPD_SUCCESS ? NVPD_MODE_ENABLED : 0);
        }
}

static size_t encode_list(uint8_t *bytes, size_t size, const struct hf_gpu *gpus, uint32_t n_gpus) {
        struct hf_list_head head = gpus_head(n_gpus);
        struct xdr_writer writer;

        xdr_writer_init(&writer, bytes, size);
        hf_list_head_encode(&writer, &head);
        for (uint32_t i = 0; i < n_gpus; i++)
                hf_gpu_encode(&writer, &gpus[i]);
        assert_true(xdr_writer_ok(&writer));
        return xdr_writer_size(&writer);
}

static const char list_in_words[] =
        "daemon version=\"0.1.0\" backend=\"kernel\" pid=4711 started_realtime=1767225600000000 ready=1 "
        "serial=8589934595 "
        "gpus=2\n"
        "gpu address=10001:17:3.1 minor=-1 uuid=\"GPU-7f0c0e5c-6d1b-4f0a-9b1e-0123456789ab\" "
        "model=\"NVIDIA H100 80GB HBM3\" state=4 wanted=1 since_realtime=1767225600123456 open_duration=4294967298 "
        "opens=5 "
        "failures=6 stuck=1 error_number=19 error_nv_status=15 error_text=\"the GPU is lost: reset it\" uvm=1 "
        "uvm_text=\"the NVLink fabric is not ready\" legacy_flag=2 leased=1\n"
        "gpu address=0:af:0.0 minor=7 uuid=\"\" model=\"\" state=2 wanted=0 since_realtime=0 open_duration=0 opens=0 "
        "failures=0 stuck=0 error_number=0 error_nv_status=0 error_text=\"\" uvm=0 uvm_text=\"\" legacy_flag=0 "
        "leased=0\n";

static void a_list_means_the_same(void **state) {
        const struct hf_gpu gpus[] = {
                gpus_failed(),
                {.address = {.bus = 0xaf}, .minor = 7, .state = HF_GPU_HELD},
        };
        uint8_t ours[HF_LIST_HEAD_ENCODED_MAX + 2 * HF_GPU_ENCODED_MAX], theirs[sizeof(ours)];
        size_t size = encode_list(ours, sizeof(ours), gpus, ARRAY_SIZE(gpus));
        CLEANUP(free_ptr) char *text = NULL;

        assert_int_equal(reference_recode_list(ours, size, theirs, sizeof(theirs), &text), size);
        assert_memory_equal(ours, theirs, size);
        assert_string_equal(text, list_in_words);
}

static void the_limits_are_the_same(void **state) {
        size_t size_max = HF_LIST_HEAD_ENCODED_MAX + (HF_GPUS_MAX + 1) * HF_GPU_ENCODED_MAX, size;
        CLEANUP(free_ptr) struct hf_gpu *gpus = calloc(HF_GPUS_MAX + 1, sizeof(*gpus));
        CLEANUP(free_ptr) uint8_t *ours = malloc(size_max);
        CLEANUP(free_ptr) uint8_t *theirs = malloc(size_max);
        CLEANUP(free_ptr) char *text = NULL;

        for (size_t i = 0; i < HF_GPUS_MAX + 1; i++)
                gpus[i] = gpus_longest();
        size = encode_list(ours, size_max, gpus, HF_GPUS_MAX);
        assert_int_equal(reference_recode_list(ours, size, theirs, size_max, &text), size);
        assert_memory_equal(ours, theirs, size);
        size = encode_list(ours, size_max, gpus, HF_GPUS_MAX + 1);
        assert_int_equal(reference_recode_list(ours, size, theirs, size_max, &text), 0);
}

static void stats_mean_the_same(void **state) {
        struct hf_stats stats = gpus_stats();
        uint8_t ours[128], theirs[128];
        CLEANUP(free_ptr) char *text = NULL;
        struct xdr_writer writer;
        size_t size;

        xdr_writer_init(&writer, ours, sizeof(ours));
        hf_stats_encode(&writer, &stats);
        size = xdr_writer_size(&writer);
        assert_int_equal(reference_recode_stats(ours, size, theirs, sizeof(theirs), &text), size);
        assert_memory_equal(ours, theirs, size);
        assert_string_equal(text,
                            "stats started_realtime=1767225600000001 sessions=2 sessions_max=3 leases=4 "
                            "accepted=8589934597 evicted=6 expired=7 malformed=8 calls=9 rejected=10 refused=11\n");
}

static size_t encode_configured(uint8_t *bytes, size_t size, uint32_t n_gpus) {
        struct xdr_writer writer;

        xdr_writer_init(&writer, bytes, size);
        xdr_write_u32(&writer, n_gpus);
        for (uint32_t i = 0; i < n_gpus; i++) {
                struct hf_gpu_configured gpu = gpus_configured(i % 2 == 0);

                hf_gpu_configured_encode(&writer, &gpu);
        }
        assert_true(xdr_writer_ok(&writer));
        return xdr_writer_size(&writer);
}

static void configured_gpus_mean_the_same(void **state) {
        static uint8_t ours[4 + (HF_GPUS_MAX + 1) * HF_GPU_CONFIGURED_ENCODED_MAX], theirs[sizeof(ours)];
        CLEANUP(free_ptr) char *text = NULL, *more = NULL;
        size_t size = encode_configured(ours, sizeof(ours), 2);

        assert_int_equal(reference_recode_configured(ours, size, theirs, sizeof(theirs), &text), size);
        assert_memory_equal(ours, theirs, size);
        assert_string_equal(text, "configured address=10001:2a:3.4 persistence=1 uvm_persistence=0\n"
                                  "configured address=10001:2a:3.4 persistence=0 uvm_persistence=1\n");
        size = encode_configured(ours, sizeof(ours), HF_GPUS_MAX);
        assert_int_equal(reference_recode_configured(ours, size, theirs, sizeof(theirs), &more), size);
        assert_memory_equal(ours, theirs, size);
        size = encode_configured(ours, sizeof(ours), HF_GPUS_MAX + 1);
        assert_int_equal(reference_recode_configured(ours, size, theirs, sizeof(theirs), &more), 0);
}

static void arguments_of_release_are_the_same(void **state) {
        for (uint32_t n_gpus = 0; n_gpus <= HF_GPUS_MAX + 1; n_gpus += HF_GPUS_MAX / 2 + 1) {
                struct hf_release_head head = {.all = n_gpus == 0, .n_gpus = n_gpus};
                static uint8_t ours[8 + 16 * (HF_GPUS_MAX + 2)], theirs[sizeof(ours)];
                struct xdr_writer writer;
                uint32_t words[6];
                size_t size;

                xdr_writer_init(&writer, ours, sizeof(ours));
                hf_release_head_encode(&writer, &head);
                for (uint32_t i = 1; i <= n_gpus; i++)
                        hf_address_encode(&writer, &(struct hf_address){0x10000 + i, i, 3, 1});
                size = xdr_writer_size(&writer);
                if (n_gpus > HF_GPUS_MAX) {
                        assert_int_equal(reference_recode_release(ours, size, theirs, sizeof(theirs), words), 0);
                        continue;
                }
                assert_int_equal(reference_recode_release(ours, size, theirs, sizeof(theirs), words), size);
                assert_memory_equal(ours, theirs, size);
                assert_int_equal(words[0], n_gpus == 0);
                assert_int_equal(words[1], n_gpus);
                assert_int_equal(words[2], n_gpus == 0 ? 0 : 0x10000 + n_gpus);
                assert_int_equal(words[5], n_gpus == 0 ? 0 : 1);
        }
}

static void arguments_of_watch_are_the_same(void **state) {
        uint8_t ours[8], theirs[8];
        struct xdr_writer writer;

        xdr_writer_init(&writer, ours, sizeof(ours));
        xdr_write_u64(&writer, UINT64_C(0x0123456789abcdef));
        assert_int_equal(reference_encode_watch(UINT64_C(0x0123456789abcdef), theirs, sizeof(theirs)), sizeof(ours));
        assert_memory_equal(ours, theirs, sizeof(ours));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(calls_have_the_same_header),
                cmocka_unit_test(replies_mean_the_same),
                cmocka_unit_test(arguments_of_set_are_the_same),
                cmocka_unit_test(results_of_get_are_the_same),
                cmocka_unit_test(a_list_means_the_same),
                cmocka_unit_test(the_limits_are_the_same),
                cmocka_unit_test(stats_mean_the_same),
                cmocka_unit_test(configured_gpus_mean_the_same),
                cmocka_unit_test(arguments_of_release_are_the_same),
                cmocka_unit_test(arguments_of_watch_are_the_same),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
