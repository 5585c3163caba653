#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * ONC RPC version 2 messages (RFC 5531 section 9): the headers of calls and replies, without record marking.
 *
 *   call:   xid, CALL, 2, program, version, procedure, credentials, verifier, arguments...
 *   reply:  xid, REPLY, ACCEPTED, verifier (AUTH_NONE), accept status, results...
 *           xid, REPLY, DENIED, RPC_MISMATCH, low, high
 *
 * Credentials and verifiers of any flavour are accepted, up to 400 bytes, and ignored: the socket identifies the
 * caller.
 */

#include "rpc/xdr.h"

enum { RPC_VERSION = 2 };

enum rpc_accept_status { /* RFC 5531 section 9, accept_stat */
                         RPC_SUCCESS = 0,
                         RPC_PROG_UNAVAIL = 1,
                         RPC_PROG_MISMATCH = 2,
                         RPC_PROC_UNAVAIL = 3,
                         RPC_GARBAGE_ARGS = 4,
                         RPC_SYSTEM_ERR = 5,
};

struct rpc_call {
        uint32_t xid;
        uint32_t program;
        uint32_t version;
        uint32_t procedure;
};

enum {
        RPC_CALL_OK = 0,
        RPC_CALL_VERSION_MISMATCH = 1, /* a call in another RPC version: answer rpc_encode_version_mismatch(xid) */
};

/*
 * Decodes the header of a call; the arguments are next in the reader. Returns RPC_CALL_OK, RPC_CALL_VERSION_MISMATCH
 * (only ret_call->xid is set), or -EBADMSG for a message that is not a call and cannot be answered.
 */
int rpc_call_decode(struct xdr_reader *reader, struct rpc_call *ret_call);

/* Encodes the header of a call with AUTH_NONE. Write the arguments after it. */
void rpc_call_encode(struct xdr_writer *writer, const struct rpc_call *call);

/* Encodes an accepted reply. With RPC_SUCCESS write the results after it; otherwise nothing. */
void rpc_encode_accepted(struct xdr_writer *writer, uint32_t xid, enum rpc_accept_status status);
/* Encodes PROG_MISMATCH with the lowest and the highest supported version. */
void rpc_encode_program_mismatch(struct xdr_writer *writer, uint32_t xid, uint32_t low, uint32_t high);
/* Encodes DENIED, RPC_MISMATCH, 2, 2. */
void rpc_encode_version_mismatch(struct xdr_writer *writer, uint32_t xid);

struct rpc_reply {
        uint32_t xid;
        bool denied;            /* RPC_MISMATCH or AUTH_ERROR; the fields below are then not valid */
        uint32_t accept_status; /* enum rpc_accept_status */
        uint32_t low, high;     /* with RPC_PROG_MISMATCH */
};

/*
 * Decodes the header of a reply; the results are next in the reader. Returns 0, or -EBADMSG for a message that is not a
 * reply.
 */
int rpc_reply_decode(struct xdr_reader *reader, struct rpc_reply *ret_reply);
