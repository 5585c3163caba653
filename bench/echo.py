# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The echo server (bench/echo.c), and clients that call it or a daemon (bench/latency.c)."""

import contextlib
import os
import subprocess

UNLIMITED_SEC = 600
FAILED = None


@contextlib.contextmanager
def echo_server(build, path):
    """Yields the server's process."""
    with subprocess.Popen([build / "bench/bench-echo", path], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n", "bench-echo did not start"
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def short_path(path):
    """Returns (descriptor, path) for a child that inherits the descriptor. The path avoids the simulator's file system,
    whose look-ups would add time to each call."""
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield folder, f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def call_durations(build, path, address, *, calls, clients=1, limit_sec=UNLIMITED_SEC, uid=0):
    """Returns the microseconds of each call, FAILED for an unanswered one. Makes fewer calls if the time is over.

    The program is run by its descriptor: another user may not reach our files.
    """
    program = os.open(build / "bench/bench-latency", os.O_PATH)
    try:
        with short_path(path) as (folder, name):
            command = ["bench-latency", name, address, str(calls), str(clients), str(limit_sec)]
            lines = subprocess.run(command, executable=f"/proc/self/fd/{program}", check=True, text=True, cwd="/",
                                   stdout=subprocess.PIPE, pass_fds=[folder, program], user=uid, group=uid,
                                   extra_groups=[]).stdout.split()
    finally:
        os.close(program)
    return [FAILED if line == "failed" else int(line) / 1000 for line in lines]
