# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""So many hostile connections at once, each behaving alike; one that the daemon has ended is made anew.

crowd() and bench/attack.py run this text in a child, which may be of another user or in another PID namespace: it needs
only the standard library and no other module of the harness. Its arguments: SOCKET KIND CONNECTIONS USERS RECORD. It
says "connected" when it has tried each once, and ends with its standard input.
"""

import contextlib
import itertools
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

FIRST_UID = 100_000  # where subordinate uids begin


def once(connection, record, turn):
    """Has said the record when it came, and says nothing more."""


def idle(connection, record, turn):
    """Says nothing."""


def trickle(connection, record, turn):
    """The record, a byte each time: never the last one."""
    at = turn % len(record)
    connection.send(record[at:at + 1] if at < len(record) - 1 else b"")


def flood(connection, record, turn):
    """Calls without waiting for the answer to the call before, but takes the answers."""
    connection.send(record)
    connection.recv(4096)


def hang_up(connection, record, turn):
    """Calls, and is gone before the answer."""
    connection.send(record)
    raise ConnectionAbortedError


def never_read(connection, record, turn):
    """Calls, and never fetches an answer."""
    connection.send(record * 20)


def pass_descriptors(connection, record, turn):
    """Calls with a descriptor beside each call."""
    socket.send_fds(connection, [record], [0])


# What never pauses, and waits for nothing.
ATTACKS = {"idle": idle, "trickle": trickle, "flood": flood, "hang up": hang_up, "never read": never_read,
           "pass descriptors": pass_descriptors}


def connect(path, uid, data, *, waits):
    """One that has not come is_ended(). waits: for a place in the daemon's queue, half a second at most."""
    connection = socket.socket(socket.AF_UNIX)
    if waits:  # a socket with Python's time limit would not
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 500_000))
    else:
        connection.setblocking(False)
    if uid:
        os.seteuid(uid)
    try:
        connection.connect(path)
        connection.setblocking(False)
        connection.send(data)
    except OSError:
        pass
    finally:
        if uid:
            os.seteuid(0)
    return connection


def is_ended(connection):
    """By the daemon. What that has sent stays to be read."""
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def behave(connection, act, record, turn):
    """Whether the connection is still of use."""
    try:
        act(connection, record, turn)
    except BlockingIOError:
        pass
    except OSError:
        return False
    return not is_ended(connection)


def main(path, kind, count, users, record):
    count, users, record = int(count), int(users), bytes.fromhex(record)
    act = ATTACKS.get(kind, once)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    uids = [FIRST_UID + at % users if users else 0 for at in range(count)]

    def come(uid):
        return connect(path, uid, record if act is once else b"", waits=act is once)

    connections = [come(uid) for uid in uids]
    print("connected", flush=True)
    told_to_end = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told_to_end.set()), daemon=True).start()
    for turn in itertools.count():
        if told_to_end.wait(0.01 if act is once else 0):
            return
        for at, uid in enumerate(uids):
            if not behave(connections[at], act, record, turn):
                connections[at].close()
                connections[at] = come(uid)


@contextlib.contextmanager
def crowd(daemon, count, *, users=0, data=b"", prefix=(), **how):
    """So many connections, of so many users (0: of the child's own), each having sent the data. how: for Popen."""
    command = [*prefix, sys.executable, "-I", "-c", Path(__file__).read_text(), str(daemon.socket_path), "once",
               str(count), str(users), data.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **how) as child:
        try:
            assert child.stdout.readline() == b"connected\n", "the crowd did not come"
            yield
        finally:
            child.stdin.close()
            child.wait(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
