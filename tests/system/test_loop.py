# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The event loop waits only for events, also under attack. The test traces the system calls of the loop's thread.

docs/reliability.md has a table of these calls, and why none of them can wait.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from harness import holdfast_rpc, process, rpc
from harness.events import wait_until

pytestmark = pytest.mark.holdfast_only("it tests our daemon's loop")

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/reliability.md"
WAITS = {"epoll_wait", "epoll_pwait", "epoll_pwait2", "restart_syscall"}
LONG_SEC = 5  # enough for a busy machine; the attacks would make the loop wait for a minute
CALL = re.compile(r"^(?P<name>[a-z]\w*)\(.*<(?P<seconds>[0-9.]+)>$")


def documented_calls():
    table = PAGE.read_text().split("<!-- loop -->")[1].split("<!-- end of loop -->")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")][1:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@contextlib.contextmanager
def trace(daemon, base):
    """Yields a dictionary {system call: longest time in seconds} of the loop's thread, filled at the end of the block."""
    if not shutil.which("strace"):
        pytest.skip("strace is missing")
    output, longest = base / "trace", {}
    command = ["strace", "-qq", "-T", "-o", str(output), "-p", str(daemon.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        try:
            wait_until(lambda: process.status_fields(daemon.pid)["TracerPid"] != "0", "the trace has begun")
            yield longest
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait(10)
    for line in output.read_text().splitlines():
        call = CALL.match(line)
        if call:
            seconds = float(call["seconds"])
            longest[call["name"]] = max(longest.get(call["name"], 0), seconds)
    assert longest, output.read_text()[:1000]


def get_record(world):
    return rpc.record(rpc.call_message(1, rpc.V1_GET, rpc.device(world.gpus[0])))


def hang_up_with_a_slow_descriptor(daemon, world):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    near.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(bytes(1 << 20))
    with far:
        os.kill(daemon.pid, signal.SIGSTOP)
        with daemon.connect() as connection, contextlib.suppress(OSError):
            connection.send(get_record(world))
            socket.send_fds(connection.socket, [b"x"], [near.fileno()])
            near.close()
        os.kill(daemon.pid, signal.SIGCONT)
        for _ in range(10):
            daemon.get(world.gpus[0])
    near.close()


def do_everything(daemon, world):
    for _ in range(5):
        hang_up_with_a_slow_descriptor(daemon, world)
    idle = [daemon.connect() for _ in range(150)]
    for connection in idle:
        with contextlib.suppress(OSError):
            connection.send(get_record(world)[:20])
    with daemon.connect() as greedy:
        greedy.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                greedy.send(get_record(world))
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    assert daemon.call_as_nobody("set", world.gpus[0], rpc.DISABLED) == str(rpc.PERMISSIONS)
    with holdfast_rpc.Connection(daemon.socket_path) as connection:
        assert connection.release() == rpc.SUCCESS
        connection.list()
        connection.stats()
    os.kill(daemon.pid, signal.SIGHUP)
    wait_until(lambda: daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED), "the GPU is held again")
    for connection in idle:
        connection.close()
    daemon.get(world.gpus[0])


@pytest.mark.parametrize("backend", ["kernel"])
@pytest.mark.parametrize("older", [False, True], ids=["this kernel", "an older kernel"])
def test_the_loop_waits_only_for_events_whatever_clients_do(world, build, older):
    if older:
        world.site.environment |= process.SANITIZER_BEHIND_PRELOAD | {
            "LD_PRELOAD": str(build / "tests/faults/older-kernel.so")}
    daemon = world.start("--verbose")
    with trace(daemon, world.base) as longest:
        do_everything(daemon, world)
    assert longest.keys() - documented_calls() == set(), "these calls are not in the table of docs/reliability.md"
    slow = {name: seconds for name, seconds in longest.items() if name not in WAITS and seconds > LONG_SEC}
    assert not slow, f"the loop waited: {slow}"
