#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * One stream to a persistence daemon, with one call after another, each within a time limit. It implements RPC in
 * general; client.c has the programs.
 *
 *  socket --recv--> received[received_next .. received_end) --record--> reply[] --decode--> results
 *
 * Both buffers outlive a call: if a call times out, its answer, or a part of it, arrives later, and the next call skips
 * it.
 */

#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "rpc/message.h"
#include "rpc/record.h"

enum {
        CONNECTION_CALL_MAX = 4224,        /* the longest call, Release of 256 GPUs, takes 4144 bytes */
        CONNECTION_REPLY_MAX = 256 * 1024, /* the longest reply, List, is some 200 KiB */
        CONNECTION_RECEIVE_MAX = 4096,     /* bytes at once */
        CONNECTION_PATH_SIZE = sizeof(((struct sockaddr_un *)NULL)->sun_path),
};

/* Allocate it with calloc(): it must be zeroed, and is too large for the stack. */
struct connection {
        int fd; /* -1 once the connection is broken */
        pid_t peer_pid;
        uint64_t timeout_usec;
        uint64_t deadline_usec; /* of the current call */
        uint32_t xid;           /* of the last call; calls count from 1 */
        struct record_reader record;
        size_t received_next;
        size_t received_end;
        char path[CONNECTION_PATH_SIZE];
        char error[512]; /* the sentence for the last failed call */
        uint8_t received[CONNECTION_RECEIVE_MAX];
        uint8_t reply[CONNECTION_REPLY_MAX];
};

/* Connects within timeout_usec, which then limits each call. Returns 0 or negative errno, like client_connect(). */
int connection_init(struct connection *connection, const char *path, uint64_t timeout_usec);
void connection_done(struct connection *connection);

/* A call. Write its arguments to `writer` between begin and finish. */
struct connection_call {
        struct xdr_writer writer;
        uint8_t bytes[RECORD_HEADER_SIZE + CONNECTION_CALL_MAX];
};

void connection_begin_call(struct connection *connection, struct connection_call *call, uint32_t program,
                           uint32_t version, uint32_t procedure);

/*
 * Sends the call and waits for its answer. Returns 0 and a reader of the results, which are valid until the next call;
 * or negative errno (client.h), with the sentence in connection->error.
 */
int connection_finish_call(struct connection *connection, struct connection_call *call, struct xdr_reader *ret_results);

/*
 * The same in two steps, for an answer that may take long: the caller can poll the descriptor between them. The time
 * limit of the second step counts from its own beginning.
 */
int connection_send_call(struct connection *connection, struct connection_call *call);
int connection_take_answer(struct connection *connection, struct xdr_reader *ret_results);

/* Writes "the persistence daemon at PATH <format>" into connection->error, and returns error. */
int connection_fail(struct connection *connection, int error, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
