# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""So many hostile connections at once, each sending the same bytes; one that the daemon has ended is made anew.

crowd() runs this text in a child, which may be of another user or in another PID namespace: it needs only the standard
library and no other module of the harness.
"""

import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

FIRST_UID = 100_000  # where subordinate uids begin


def connect(path, uid, data):
    connection = socket.socket(socket.AF_UNIX)
    # It waits for a place in the daemon's queue, half a second at most. (A socket with Python's time limit would not.)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 500_000))
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
    """By the daemon: nothing that it sends is taken, so what it sends stays to be seen."""
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def main(path, count, users, data):
    count, users, data = int(count), int(users), bytes.fromhex(data)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    uids = [FIRST_UID + at % users if users else 0 for at in range(count)]
    connections = [connect(path, uid, data) for uid in uids]
    print("connected", flush=True)
    told_to_end = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told_to_end.set()), daemon=True).start()
    while not told_to_end.wait(0.01):
        for at, uid in enumerate(uids):
            if is_ended(connections[at]):
                connections[at].close()
                connections[at] = connect(path, uid, data)


@contextlib.contextmanager
def crowd(daemon, count, *, users=0, data=b"", prefix=(), **how):
    """So many connections, of so many users (0: of the child's own), each having sent the data. how: for Popen."""
    command = [*prefix, sys.executable, "-I", "-c", Path(__file__).read_text(), str(daemon.socket_path), str(count),
               str(users), data.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **how) as child:
        try:
            assert child.stdout.readline() == b"connected\n", "the crowd did not come"
            yield
        finally:
            child.stdin.close()
            child.wait(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
