#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * One stream to a persistence daemon, over which calls go one after another, each within a time limit. It knows RPC,
 * and no program: client.c has those.
 *
 *  socket --recv--> received[received_next .. received_end) --record--> reply[] --decode--> results
 *
 * Both stages outlive a call: one that timed out leaves its answer, perhaps half of it, to be skipped by the next.
 */

#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "rpc/message.h"
#include "rpc/record.h"

enum {
        CONNECTION_CALL_MAX = 4224,        /* the longest call, Release of 256 GPUs, takes 4144 bytes */
        CONNECTION_REPLY_MAX = 256 * 1024, /* the longest reply, List, is some 210 KiB */
        CONNECTION_RECEIVE_MAX = 4096,     /* at once */
        CONNECTION_PATH_SIZE = sizeof(((struct sockaddr_un *)NULL)->sun_path),
};

/* On the heap, zeroed: it is large. */
struct connection {
        int fd; /* -1 once the two sides are out of step */
        pid_t peer_pid;
        uint64_t timeout_usec;
        uint64_t deadline_usec; /* of the call in work */
        uint32_t xid;           /* of the last call; calls count from 1 */
        struct record_reader record;
        size_t received_next;
        size_t received_end;
        char path[CONNECTION_PATH_SIZE];
        char error[512]; /* the sentence for the last call that failed */
        uint8_t received[CONNECTION_RECEIVE_MAX];
        uint8_t reply[CONNECTION_REPLY_MAX];
};

/* Connects within timeout_usec, which bounds each call from then on. Returns 0 or negative errno, as client_connect().
 */
int connection_init(struct connection *connection, const char *path, uint64_t timeout_usec);
void connection_done(struct connection *connection);

/* A call on its way: its arguments are written to `writer` between begin and finish. */
struct connection_call {
        struct xdr_writer writer;
        uint8_t bytes[RECORD_HEADER_SIZE + CONNECTION_CALL_MAX];
};

void connection_begin_call(struct connection *connection, struct connection_call *call, uint32_t program,
                           uint32_t version, uint32_t procedure);

/*
 * Sends the call and waits for its answer. Returns 0 and a reader that stands at the results, which stay valid until
 * the next call; or negative errno (client.h), with the sentence in connection->error.
 */
int connection_finish_call(struct connection *connection, struct connection_call *call, struct xdr_reader *ret_results);

/*
 * The same in two steps, for an answer that may be long in coming: the descriptor can be polled in between. The time
 * limit of the second counts from its own beginning.
 */
int connection_send_call(struct connection *connection, struct connection_call *call);
int connection_take_answer(struct connection *connection, struct xdr_reader *ret_results);

/* Puts "the persistence daemon at PATH <what it did>" into connection->error, and returns error. */
int connection_fail(struct connection *connection, int error, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
