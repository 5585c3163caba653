# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A client of Holdfast's RPC program (src/rpc/holdfast.x). It returns answers as dictionaries.

Like rpc.py, it shares no code with the codec under test.
"""

import struct

from . import rpc

PROGRAM = 0x20484644
VERSION = 1
LIST, WATCH, STATS, RELEASE, CONFIGURED = 1, 2, 3, 4, 5

RELEASED, OPENING, HELD, CLOSING, FAILED = range(5)
UVM_OFF, UVM_WAITING, UVM_ON = range(3)
NO, YES, UNKNOWN = range(3)

STATS_FIELDS = (
    ("started_realtime", 2), ("sessions", 1), ("sessions_max", 1), ("leases", 1), ("accepted", 2), ("evicted", 2),
    ("expired", 2), ("malformed", 2), ("calls", 2), ("rejected", 2), ("refused", 2),
)


class Reader:
    """Decodes the XDR words of a Reply."""

    def __init__(self, words):
        self._words = list(words)

    def number(self, size=1):
        value = 0
        for _ in range(size):
            value = value << 32 | self._words.pop(0)
        return value

    def signed(self):
        return struct.unpack(">i", rpc.words(self.number()))[0]

    def string(self):
        length = self.number()
        data = b"".join(rpc.words(self.number()) for _ in range((length + 3) // 4))
        assert not any(data[length:]), "padding is zeros"
        return data[:length].decode("ascii")

    def end(self):
        assert not self._words, f"{len(self._words)} words follow"


def read_address(reader):
    domain, bus, slot, function = (reader.number() for _ in range(4))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def read_gpu(reader):
    return {
        "address": read_address(reader), "minor": reader.signed(), "uuid": reader.string(), "model": reader.string(),
        "state": reader.number(), "wanted": reader.number(), "since_realtime": reader.number(2),
        "open_duration": reader.number(2), "opens": reader.number(), "failures": reader.number(),
        "stuck": reader.number(), "error_number": reader.signed(), "error_nv_status": reader.number(),
        "error_text": reader.string(), "uvm": reader.number(), "uvm_text": reader.string(),
        "legacy_flag": reader.number(), "leased": reader.number(),
    }


def read_list(reader):
    head = {
        "daemon_version": reader.string(), "backend": reader.string(), "pid": reader.number(),
        "started_realtime": reader.number(2), "ready": reader.number(), "serial": reader.number(2),
    }
    head["gpus"] = [read_gpu(reader) for _ in range(reader.number())]
    return head


class Connection(rpc.Connection):
    """A client of Holdfast's program. It can also make all calls of rpc.Connection, since one socket serves both programs."""

    def _ask(self, procedure, read, args=b""):
        reply = self.call(VERSION, procedure, args, program=PROGRAM)
        assert reply.is_success, f"rejected: {reply.words}"
        return self._read(reply, read)

    @staticmethod
    def _read(reply, read):
        reader = Reader(reply.results)
        value = read(reader)
        reader.end()
        return value

    def list(self):
        return self._ask(LIST, read_list)

    def gpu(self, address):
        return next(gpu for gpu in self.list()["gpus"] if gpu["address"] == address)

    def watch(self, serial):
        return self._ask(WATCH, read_list, rpc.words(serial >> 32, serial))

    def begin_watch(self, serial):
        """Sends the call and returns when the daemon has read it. finish_watch() returns the answer."""
        args = rpc.words(serial >> 32, serial)
        self.send_until_taken(rpc.record(rpc.call_message(VERSION, WATCH, args, program=PROGRAM)))

    def finish_watch(self):
        return self._read(self.receive(), read_list)

    def configured(self):
        """Returns the configuration: {address: (persistence, uvm_persistence)}."""
        return self._ask(CONFIGURED, lambda reader: {read_address(reader): (reader.number(), reader.number())
                                                     for _ in range(reader.number())})

    def stats(self):
        return self._ask(STATS, lambda reader: {name: reader.number(size) for name, size in STATS_FIELDS})

    def release(self, *addresses):
        """Leases these GPUs, or all if none is named, until the connection ends. Returns the status."""
        return self._ask(RELEASE, lambda reader: reader.number(), release_args(*addresses))

    def begin_release(self, *addresses):
        args = release_args(*addresses)
        self.send_until_taken(rpc.record(rpc.call_message(VERSION, RELEASE, args, program=PROGRAM)))

    def finish_release(self):
        return self._read(self.receive(), lambda reader: reader.number())


def release_args(*addresses):
    return rpc.words(not addresses, len(addresses)) + b"".join(rpc.device(address) for address in addresses)
