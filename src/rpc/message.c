/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/message.h"

#include <errno.h>

/* RFC 5531 sections 8.2 and 9 */
enum {
        MESSAGE_CALL = 0,
        MESSAGE_REPLY = 1,

        REPLY_ACCEPTED = 0,
        REPLY_DENIED = 1,

        REJECT_RPC_MISMATCH = 0,
        REJECT_AUTH_ERROR = 1,

        AUTH_NONE = 0,
        AUTH_BODY_MAX = 400,
};

/* Skips credentials or a verifier of any flavour: the socket identifies the caller. */
static void auth_skip(struct xdr_reader *reader) {
        (void)xdr_read_u32(reader);
        xdr_skip_opaque(reader, AUTH_BODY_MAX);
}

static void auth_none_encode(struct xdr_writer *writer) {
        xdr_write_u32(writer, AUTH_NONE);
        xdr_write_u32(writer, 0);
}

int rpc_call_decode(struct xdr_reader *reader, struct rpc_call *ret_call) {
        struct rpc_call call = {.xid = xdr_read_u32(reader)};
        uint32_t type = xdr_read_u32(reader);
        uint32_t rpc_version = xdr_read_u32(reader);

        if (!xdr_reader_ok(reader) || type != MESSAGE_CALL)
                return -EBADMSG;
        if (rpc_version != RPC_VERSION) {
                /* We do not know what follows in that version. */
                *ret_call = call;
                return RPC_CALL_VERSION_MISMATCH;
        }
        call.program = xdr_read_u32(reader);
        call.version = xdr_read_u32(reader);
        call.procedure = xdr_read_u32(reader);
        auth_skip(reader);
        auth_skip(reader);
        if (!xdr_reader_ok(reader))
                return -EBADMSG;
        *ret_call = call;
        return RPC_CALL_OK;
}

void rpc_call_encode(struct xdr_writer *writer, const struct rpc_call *call) {
        xdr_write_u32(writer, call->xid);
        xdr_write_u32(writer, MESSAGE_CALL);
        xdr_write_u32(writer, RPC_VERSION);
        xdr_write_u32(writer, call->program);
        xdr_write_u32(writer, call->version);
        xdr_write_u32(writer, call->procedure);
        auth_none_encode(writer);
        auth_none_encode(writer);
}

void rpc_encode_accepted(struct xdr_writer *writer, uint32_t xid, enum rpc_accept_status status) {
        xdr_write_u32(writer, xid);
        xdr_write_u32(writer, MESSAGE_REPLY);
        xdr_write_u32(writer, REPLY_ACCEPTED);
        auth_none_encode(writer);
        xdr_write_u32(writer, status);
}

void rpc_encode_program_mismatch(struct xdr_writer *writer, uint32_t xid, uint32_t low, uint32_t high) {
        rpc_encode_accepted(writer, xid, RPC_PROG_MISMATCH);
        xdr_write_u32(writer, low);
        xdr_write_u32(writer, high);
}

void rpc_encode_version_mismatch(struct xdr_writer *writer, uint32_t xid) {
        xdr_write_u32(writer, xid);
        xdr_write_u32(writer, MESSAGE_REPLY);
        xdr_write_u32(writer, REPLY_DENIED);
        xdr_write_u32(writer, REJECT_RPC_MISMATCH);
        xdr_write_u32(writer, RPC_VERSION);
        xdr_write_u32(writer, RPC_VERSION);
}

static void accepted_decode(struct xdr_reader *reader, struct rpc_reply *reply) {
        auth_skip(reader);
        reply->accept_status = xdr_read_at_most(reader, RPC_SYSTEM_ERR);
        if (reply->accept_status == RPC_PROG_MISMATCH) {
                reply->low = xdr_read_u32(reader);
                reply->high = xdr_read_u32(reader);
        }
}

/* Reads the reason only to check that this is a valid reply. */
static void denied_skip(struct xdr_reader *reader) {
        uint32_t reason = xdr_read_at_most(reader, REJECT_AUTH_ERROR);

        (void)xdr_read_u32(reader); /* the lowest version, or the error in the credentials */
        if (reason == REJECT_RPC_MISMATCH)
                (void)xdr_read_u32(reader); /* the highest version */
}

int rpc_reply_decode(struct xdr_reader *reader, struct rpc_reply *ret_reply) {
        struct rpc_reply reply = {.xid = xdr_read_u32(reader)};

        if (xdr_read_u32(reader) != MESSAGE_REPLY)
                return -EBADMSG;
        reply.denied = xdr_read_at_most(reader, REPLY_DENIED) == REPLY_DENIED;
        if (reply.denied)
                denied_skip(reader);
        else
                accepted_decode(reader, &reply);
        if (!xdr_reader_ok(reader))
                return -EBADMSG;
        *ret_reply = reply;
        return 0;
}
