#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What the daemon and its keeper (keeper.h) say to each other: records of one size over a SOCK_SEQPACKET socket, some
 * with a descriptor. The daemon calls by a datagram, and not by connect(2), which its sandbox refuses: no filter of
 * system calls sees where that leads.
 *
 *      daemon                      keeper
 *        | CALL, one end of a pair -->|   the only datagram
 *        |<-------------------- HELLO |   only now may a descriptor be sent: one that lies in a socket nobody has
 *        |                            |   taken yet would be closed by whoever closes that, process 1 even
 *        | TAKE --------------------->|   a daemon's first connection: it wants what a daemon before it has left
 *        |<------- HAVE name, fd ...  |
 *        |<---------------------- END |
 *        | RESET -------------------->|   or a later one: whatever was kept is closed, KEEPs follow
 *        | WAIT seconds ------------->|
 *        | KEEP name, fd ------------>|   replaces one of the same name
 *        | DROP name, token --------->|
 *        |<------ DROPPED name, token |   its close(2) has returned; the token is that of the last DROP of this name
 *
 * An older keeper outlives an upgrade of the daemon: the size of a message and the meaning of a kind never change.
 * A kind that the other side does not know is ignored.
 */

#include <stdbool.h>
#include <stdint.h>

#include "gpu/pci.h"

enum {
        KEEPER_VERSION = 1, /* of HELLO */
        KEEPER_NAME_SIZE = 40,
};

enum keeper_kind {
        KEEPER_HELLO = 1,
        KEEPER_TAKE = 2,
        KEEPER_HAVE = 3,
        KEEPER_END = 4,
        KEEPER_RESET = 5,
        KEEPER_WAIT = 6,
        KEEPER_KEEP = 7,
        KEEPER_DROP = 8,
        KEEPER_DROPPED = 9,
        KEEPER_CALL = 10,
};

struct keeper_message {
        uint32_t kind;
        uint32_t value;              /* HELLO: the version; WAIT: seconds; DROP, DROPPED: the token */
        char name[KEEPER_NAME_SIZE]; /* terminated */
};

/*
 * Sends one message without waiting; fd -1: without a descriptor. name NULL: none. Returns 0, or the negative errno of
 * sendmsg(2): -EAGAIN when the other side does not read, -EPIPE when it is gone.
 */
int keeper_send(int socket_fd, enum keeper_kind kind, uint32_t value, const char *name, int fd);

/*
 * Takes one message without waiting. *ret_fd is the descriptor that came with it, close-on-exec and the caller's, or
 * -1; a message has one at most, and more do not fit. Returns 0, -EAGAIN, -ENOTCONN at the end of the connection,
 * -EBADMSG when it is no message, or another negative errno.
 */
int keeper_receive(int socket_fd, struct keeper_message *ret_message, int *ret_fd);

/*
 * Calls whoever reads datagrams at path. Returns a connection, on which a keeper that lives greets; or negative errno:
 * -ECONNREFUSED or -ENOENT when nobody is there, -EAGAIN when too many calls wait, -EPERM when the socket may be
 * another user's.
 */
int keeper_call(const char *path);

/* Whether it is a socket for such a connection, whose other side is root or runs as the user that we are. */
bool keeper_trusts(int fd);

/* The name of a kept descriptor: "gpu-0000.17.00.0" (without colons, as systemd's store wanted names in 0.1.0). */
void keeper_name_format(char *buffer, size_t size, const char *kind, const struct pci_address *address);

/* Whether the name is that of a descriptor of this kind; then whose. */
bool keeper_name_parse(const char *name, const char *kind, struct pci_address *ret_address);
