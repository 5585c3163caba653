# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A client for ONC RPC version 2 (RFC 5531) over a Unix stream socket.

It shares no code with the codec under test. It builds each part of a call separately, so that a test can split, garble or
repeat any part. It imports only the standard library, because tests that call as another user run this file's text in a
child with that uid.
"""

import fcntl
import itertools
import os
import socket
import struct
import sys
import termios
import time

PROGRAM = 35006
NULL = 0
V1_SET, V1_GET = 1, 2
V2_SET_ONLY, V2_SET_NUMA = 1, 2

DISABLED, ENABLED = 0, 1
OFFLINE, ONLINE = 0, 1

SUCCESS = 0
DEVICE_NOT_FOUND = 2
DRIVER = 3
INVALID_ARGUMENT = 5
PERMISSIONS = 7
NUMA_FAILURE = 10

CALL, REPLY = 0, 1
ACCEPTED, DENIED = 0, 1
PROG_UNAVAIL, PROG_MISMATCH, PROC_UNAVAIL, GARBAGE_ARGS = 1, 2, 3, 4
RPC_MISMATCH = 0

AUTH_NONE = (0, b"")
LAST_FRAGMENT = 0x80000000

_xids = itertools.count(0x484F4C44)


def words(*values):
    """XDR integers; negative values are encoded as signed integers."""
    return b"".join(struct.pack(">I", value & 0xFFFFFFFF) for value in values)


def opaque(data):
    return words(len(data)) + data + bytes(-len(data) % 4)


def device(address):
    """The four words of a PCI address that is written as in sysfs: 0000:17:00.0."""
    domain, bus, slot_function = address.split(":")
    slot, function = slot_function.split(".")
    return words(int(domain, 16), int(bus, 16), int(slot, 16), int(function, 16))


def call_message(version, procedure, args=b"", *, program=PROGRAM, xid=None, rpc_version=2, cred=AUTH_NONE,
                 verf=AUTH_NONE):
    """A call message without record marking."""
    xid = next(_xids) & 0xFFFFFFFF if xid is None else xid
    auth = b"".join(words(flavour) + opaque(body) for flavour, body in (cred, verf))
    return words(xid, CALL, rpc_version, program, version, procedure) + auth + args


def record(message, *, fragment_size=None):
    """Record marking (section 11): one fragment, or fragments of at most fragment_size bytes."""
    size = fragment_size or max(len(message), 1)
    fragments = [message[at:at + size] for at in range(0, len(message), size)] or [b""]
    lasts = [0] * (len(fragments) - 1) + [LAST_FRAGMENT]
    return b"".join(words(last | len(fragment)) + fragment for last, fragment in zip(lasts, fragments))


class Reply:
    """A decoded reply."""

    def __init__(self, message):
        self.words = list(struct.unpack(f">{len(message) // 4}I", message))
        assert len(message) % 4 == 0, f"a reply of {len(message)} bytes is not valid XDR"
        self.xid, direction, self.reply_status = self.words[:3]
        assert direction == REPLY, f"message type {direction} is not a reply"
        self.accept_status = None
        self.results = self.words[3:]
        if self.reply_status == ACCEPTED:
            assert self.words[3:5] == [0, 0], "the verifier of a reply must be AUTH_NONE"
            self.accept_status, self.results = self.words[5], self.words[6:]

    @property
    def is_success(self):
        return (self.reply_status, self.accept_status) == (ACCEPTED, 0)


class Connection:
    """One client's connection: call() makes whole calls; send() and receive() transfer any bytes."""

    def __init__(self, path, timeout=5):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self._connect(str(path), time.monotonic() + timeout)

    def _connect(self, path, deadline):
        """Connects. If the daemon's queue is full, connect() of a socket with a time limit fails with EAGAIN; so try again."""
        while True:
            try:
                return self.socket.connect(path)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"no place in the queue of {path}") from None
                time.sleep(0.001)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_until_taken(self, data, timeout=5):
        """Sends, and returns when the daemon has read everything, so that it reads later data separately."""
        self.send(data)
        deadline = time.monotonic() + timeout
        while struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]:
            assert time.monotonic() < deadline, f"the daemon did not read {len(data)} bytes within {timeout} s"
            os.sched_yield()

    def _receive_exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError(f"the daemon closed the connection after {len(data)} of {count} bytes")
            data += piece
        return data

    def receive(self):
        """Reads the next record. Returns a Reply."""
        message, last = b"", 0
        while not last:
            header = struct.unpack(">I", self._receive_exactly(4))[0]
            last, length = header & LAST_FRAGMENT, header & ~LAST_FRAGMENT
            message += self._receive_exactly(length)
        return Reply(message)

    def call(self, version, procedure, args=b"", **parts):
        message = call_message(version, procedure, args, **parts)
        self.send(record(message))
        reply = self.receive()
        assert words(reply.xid) == message[:4], "the reply is to another call"
        return reply

    def results(self, version, procedure, args=b""):
        reply = self.call(version, procedure, args)
        assert reply.is_success, f"rejected: {reply.words}"
        return reply.results

    def null(self, version):
        return self.results(version, NULL)

    def get(self, address):
        """Returns (status, mode); the mode is None if the reply has none."""
        status, *mode = self.results(1, V1_GET, device(address))
        assert len(mode) == (1 if status == SUCCESS else 0), f"a reply has a mode if and only if its status is 0: {mode}"
        return status, mode[0] if mode else None

    def set(self, address, mode):
        return self._status(1, V1_SET, address, mode)

    def set_only(self, address, mode):
        return self._status(2, V2_SET_ONLY, address, mode)

    def set_numa(self, address, status):
        return self._status(2, V2_SET_NUMA, address, status)

    def _status(self, version, procedure, address, value):
        results = self.results(version, procedure, device(address) + words(value))
        assert len(results) == 1, f"a reply to a Set has only the status: {results}"
        return results[0]


def main(path, expression):
    """Runs in a child with another uid: rpc.py SOCKET 'set("0000:17:00.0", 1)' prints what Connection.set() returns."""
    with Connection(path) as connection:
        print(eval(f"connection.{expression}", globals() | {"connection": connection}))  # the expression is a test's


if __name__ == "__main__":
    main(*sys.argv[1:])
