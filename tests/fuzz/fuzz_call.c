/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Decodes the bytes as a call of program 35006, and as a reply to one. */

#include <string.h>

#include "rpc/nvpd.h"
#include "tests/fuzz/fuzz.h"

enum { MESSAGE_MAX = 128 };

static void try_set_args(struct xdr_reader reader) {
        const uint8_t *bytes = reader.next;
        uint8_t again[MESSAGE_MAX];
        struct nvpd_set_args args;
        struct xdr_writer writer;

        nvpd_set_args_decode(&reader, &args);
        if (!xdr_reader_ok(&reader))
                return;
        xdr_writer_init(&writer, again, sizeof(again));
        nvpd_set_args_encode(&writer, &args);
        fuzz_require(memcmp(again, bytes, xdr_writer_size(&writer)) == 0);
}

static void try_get_result(struct xdr_reader reader) {
        const uint8_t *bytes = reader.next;
        uint8_t again[MESSAGE_MAX];
        struct nvpd_get_result result;
        struct xdr_writer writer;

        nvpd_get_result_decode(&reader, &result);
        if (!xdr_reader_ok(&reader))
                return;
        xdr_writer_init(&writer, again, sizeof(again));
        nvpd_get_result_encode(&writer, &result);
        fuzz_require(memcmp(again, bytes, xdr_writer_size(&writer)) == 0);
        fuzz_require(nvpd_status_text(result.status));
}

static void try_call(struct xdr_reader reader) {
        struct rpc_call call, again;
        uint8_t bytes[MESSAGE_MAX];
        struct xdr_writer writer;

        if (rpc_call_decode(&reader, &call) != RPC_CALL_OK)
                return;
        try_set_args(reader);
        xdr_writer_init(&writer, bytes, sizeof(bytes));
        rpc_call_encode(&writer, &call);
        xdr_reader_init(&reader, bytes, xdr_writer_size(&writer));
        fuzz_require(rpc_call_decode(&reader, &again) == RPC_CALL_OK && xdr_reader_left(&reader) == 0);
        fuzz_require(memcmp(&call, &again, sizeof(call)) == 0);
}

static void encode_reply(struct xdr_writer *writer, const struct rpc_reply *reply) {
        if (reply->denied)
                rpc_encode_version_mismatch(writer, reply->xid);
        else if (reply->accept_status == RPC_PROG_MISMATCH)
                rpc_encode_program_mismatch(writer, reply->xid, reply->low, reply->high);
        else
                rpc_encode_accepted(writer, reply->xid, reply->accept_status);
}

static void try_reply(struct xdr_reader reader) {
        struct rpc_reply reply, again;
        uint8_t bytes[MESSAGE_MAX];
        struct xdr_writer writer;

        if (rpc_reply_decode(&reader, &reply) < 0)
                return;
        try_get_result(reader);
        xdr_writer_init(&writer, bytes, sizeof(bytes));
        encode_reply(&writer, &reply);
        xdr_reader_init(&reader, bytes, xdr_writer_size(&writer));
        fuzz_require(rpc_reply_decode(&reader, &again) == 0 && xdr_reader_left(&reader) == 0);
        fuzz_require(again.xid == reply.xid && again.denied == reply.denied);
        fuzz_require(again.accept_status == reply.accept_status && again.low == reply.low && again.high == reply.high);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        struct xdr_reader reader;

        xdr_reader_init(&reader, bytes, size);
        try_call(reader);
        try_reply(reader);
        return 0;
}
