#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""crowd.py SOCKET KIND CONNECTIONS USERS RECORD: so many hostile connections of one process, until it is killed.

Says "ready" when it has tried each once. A connection that the daemon has ended is made anew at once. USERS other than
0: the connections are of so many uids in turn, which takes root.
"""

import itertools
import os
import socket
import sys

FIRST_UID = 100_000  # where subordinate uids begin


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


KINDS = {"idle": idle, "trickle": trickle, "flood": flood, "hang up": hang_up, "never read": never_read,
         "pass descriptors": pass_descriptors}


def connect(path, uid):
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    if uid:
        os.seteuid(uid)
    try:
        connection.connect(path)
        return connection
    except OSError:
        connection.close()
        return None
    finally:
        if uid:
            os.seteuid(0)


def is_ended(connection):
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def behave(connection, kind, record, turn):
    """Whether the connection is still of use."""
    try:
        KINDS[kind](connection, record, turn)
    except BlockingIOError:
        pass
    except OSError:
        return False
    return not is_ended(connection)


def main(path, kind, count, users, record):
    record, users = bytes.fromhex(record), int(users)
    crowd = [None] * int(count)
    for turn in itertools.count():
        for at, connection in enumerate(crowd):
            crowd[at] = connection = connection or connect(path, users and FIRST_UID + at % users)
            if connection and not behave(connection, kind, record, turn):
                connection.close()
                crowd[at] = None
        if turn == 0:
            print("ready", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
