# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Attacks on the daemon's socket, each for a limited time, by a process without privileges.

tests/system/test_attacks.py has more. These are the ones that a hold on a real GPU should survive.
"""

import contextlib
import os
import random

from harness import process, rpc

CROWD = 100


def get_record(address):
    return rpc.record(rpc.call_message(1, rpc.V1_GET, rpc.device(address)))


def send_what_is_taken(connection, data):
    """Sends as much as the daemon takes: it may end the session meanwhile, or not read."""
    connection.socket.settimeout(0.5)
    try:
        connection.send(data)
    except OSError:
        pass


def hang_up_before_the_reply(path, address):
    for _ in range(1000):
        with rpc.Connection(path) as connection:
            send_what_is_taken(connection, get_record(address))


def crowd_of_half_records(path, address):
    with contextlib.ExitStack() as crowd:
        for _ in range(CROWD):
            send_what_is_taken(crowd.enter_context(rpc.Connection(path)), get_record(address)[:20])


def never_read(path, address):
    with rpc.Connection(path) as connection:
        send_what_is_taken(connection, get_record(address) * 50_000)


def huge_record(path, _address):
    with rpc.Connection(path) as connection:
        send_what_is_taken(connection, rpc.words(0x7FFFFFFF) + bytes(1 << 20))


def random_bytes(path, _address):
    source = random.Random(35006)  # the same in every run
    for _ in range(300):
        with rpc.Connection(path) as connection:
            send_what_is_taken(connection, source.randbytes(source.randrange(1, 400)))


def idle_crowd(path, _address):
    with contextlib.ExitStack() as crowd:
        for _ in range(CROWD):
            crowd.enter_context(rpc.Connection(path))


ATTACKS = {
    "1000 clients that hang up before the reply": hang_up_before_the_reply,
    "100 half records": crowd_of_half_records,
    "100 idle connections": idle_crowd,
    "a client that sends 50000 calls and reads no reply": never_read,
    "a record with a length of two gigabytes": huge_record,
    "300 connections with random bytes": random_bytes,
}


def become_nobody():
    os.setgroups([])
    os.setgid(process.NOBODY)
    os.setuid(process.NOBODY)


def as_nobody(function, *arguments):
    """Runs function in a child as the user nobody; returns its result as text. The child does not execute a program, because
    that user may be unable to read our files."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                become_nobody()
            text, status = str(function(*arguments)), 0
        except BaseException as fault:
            text = f"{type(fault).__name__}: {fault}"
        finally:
            os.write(writing, text.encode()[:4096])
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise OSError(text or f"the child ended with wait status {status}")
    return text


def can_become_nobody():
    try:
        as_nobody(os.getuid)
    except OSError:
        return False
    return True


def get(path, address):
    with rpc.Connection(path) as connection:
        return connection.get(address)


def set_off(path, address):
    with rpc.Connection(path) as connection:
        return connection.set(address, rpc.DISABLED)
