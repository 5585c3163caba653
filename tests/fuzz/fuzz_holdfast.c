/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The results of List: whatever decodes must encode to the same bytes. */

#include <string.h>

#include "base/cleanup.h"
#include "rpc/holdfast.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        CLEANUP(free_ptr) uint8_t *again = malloc(size + 1);
        struct hf_list_head head;
        struct xdr_reader reader;
        struct xdr_writer writer;

        fuzz_require(again);
        xdr_reader_init(&reader, bytes, size);
        xdr_writer_init(&writer, again, size);
        hf_list_head_decode(&reader, &head);
        hf_list_head_encode(&writer, &head);
        for (uint32_t i = 0; i < head.n_gpus && xdr_reader_ok(&reader); i++) {
                struct hf_gpu gpu;

                hf_gpu_decode(&reader, &gpu);
                hf_gpu_encode(&writer, &gpu);
        }
        if (!xdr_reader_ok(&reader))
                return 0;
        fuzz_require(xdr_writer_ok(&writer) && xdr_writer_size(&writer) == size - xdr_reader_left(&reader));
        fuzz_require(memcmp(again, bytes, xdr_writer_size(&writer)) == 0);
        return 0;
}
