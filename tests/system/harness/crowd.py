# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Opens many hostile connections that all behave in one way, and reopens each that the daemon closes.

crowd() and bench/attack.py run this file's text in a child process, which may have another user or another PID namespace.
So it imports only the standard library and no other module of the harness. Arguments: SOCKET KIND CONNECTIONS USERS
RECORD. It prints "connected" after the first attempt of each connection, and exits when its standard input ends.
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
    """Sends nothing: connect() has sent the record."""


def idle(connection, record, turn):
    """Sends nothing, not even the record."""


def trickle(connection, record, turn):
    """Sends the record one byte a turn, and never its last byte."""
    at = turn % len(record)
    connection.send(record[at:at + 1] if at < len(record) - 1 else b"")


def flood(connection, record, turn):
    """Calls without waiting for the previous answer, but reads the answers."""
    connection.send(record)
    connection.recv(4096)


def hang_up(connection, record, turn):
    """Calls, and closes the connection before the answer."""
    connection.send(record)
    raise ConnectionAbortedError


def never_read(connection, record, turn):
    """Calls, and never reads an answer."""
    connection.send(record * 20)


def pass_descriptors(connection, record, turn):
    """Passes a descriptor with each call."""
    socket.send_fds(connection, [record], [0])


# These run without a pause between turns.
ATTACKS = {"idle": idle, "trickle": trickle, "flood": flood, "hang up": hang_up, "never read": never_read,
           "pass descriptors": pass_descriptors}


def connect(path, uid, data, *, waits):
    """Returns a connection; if it failed, is_ended() is true for it.

    waits: wait up to half a second for a place in the daemon's queue.
    """
    connection = socket.socket(socket.AF_UNIX)
    if waits:  # not settimeout(): Python's sockets with a time limit do not wait for a place in the queue
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
    """Returns whether the daemon has closed the connection. Reads nothing of what the daemon has sent."""
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def behave(connection, act, record, turn):
    """Returns whether the connection is still open."""
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
    """Keeps `count` connections open, each after sending the data.

    users: how many users they belong to; 0: all belong to the child's user. how: for Popen.
    """
    command = [*prefix, sys.executable, "-I", "-c", Path(__file__).read_text(), str(daemon.socket_path), "once",
               str(count), str(users), data.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **how) as child:
        try:
            assert child.stdout.readline() == b"connected\n", "the crowd's process did not start"
            yield
        finally:
            child.stdin.close()
            child.wait(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
