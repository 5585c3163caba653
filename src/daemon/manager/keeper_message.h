#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The protocol between the daemon and its keeper (keeper.h): messages of a fixed size over a SOCK_SEQPACKET socket,
 * some with a descriptor. The daemon calls the keeper by a datagram, because its sandbox forbids connect(2): a filter
 * of system calls cannot check the address.
 *
 *      daemon                      keeper
 *        | CALL, one end of a pair -->|   the only datagram
 *        |<-------------------- HELLO |   the keeper has read CALL: from now on the daemon may send descriptors
 *        | TAKE --------------------->|   the first connection of a daemon: asks for what the previous daemon left
 *        |<------- HAVE name, fd ...  |
 *        |<---------------------- END |
 *        | RESET -------------------->|   a later connection: the keeper closes what it has; KEEPs follow
 *        | WAIT seconds ------------->|
 *        | KEEP name, fd ------------>|   replaces a descriptor of the same name
 *        | DROP name, token --------->|
 *        |<------ DROPPED name, token |   its close(2) has returned; the token is that of the last DROP of this name
 *
 * Descriptors that the daemon sent before HELLO could be closed by another process. As long as the keeper has not read
 * CALL, the keeper's end of the pair is queued in the socket that received CALL. Whoever closes this socket, perhaps
 * process 1, also closes that end and all descriptors sent to it.
 *
 * A keeper outlives an upgrade of the daemon, so the size of a message and the meaning of a kind must never change.
 * Each side ignores kinds that it does not know, but a connection must begin with TAKE or RESET: otherwise the keeper
 * closes it.
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
 * Sends one message without waiting. fd -1: no descriptor; name NULL: no name. Returns 0, -ENAMETOOLONG, or the
 * negative errno of sendmsg(2): -EAGAIN if the other side does not read, -EPIPE if it is gone.
 */
int keeper_send(int socket_fd, enum keeper_kind kind, uint32_t value, const char *name, int fd);

/*
 * Receives one message without waiting. *ret_fd is the descriptor that came with it (close-on-exec; the caller owns
 * it), or -1; a message has one at most. Returns 0, -EAGAIN, -ENOTCONN at the end of the connection, -EBADMSG if it is
 * not a valid message (*ret_fd may be set), or another negative errno.
 */
int keeper_receive(int socket_fd, struct keeper_message *ret_message, int *ret_fd);

/*
 * Calls the keeper at path. Returns a connection, on which a living keeper sends HELLO, or negative errno:
 * -ECONNREFUSED or -ENOENT if no keeper is there, -EAGAIN if too many calls wait, -EPERM if another user may have
 * created the socket.
 */
int keeper_call(const char *path);

/* Whether fd is a socket of such a connection, and the process at its other end is root or runs as our user. */
bool keeper_trusts(int fd);

/*
 * The name of a kept descriptor: "gpu-0000.17.00.0". It has no colons because version 0.1.0 used systemd's store, which
 * allows none.
 */
void keeper_name_format(char *buffer, size_t size, const char *kind, const struct pci_address *address);

/* Whether the name is that of a descriptor of this kind; *ret_address is its GPU. */
bool keeper_name_parse(const char *name, const char *kind, struct pci_address *ret_address);
