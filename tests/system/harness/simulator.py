# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Starts the simulated driver (holdfast-sim) with a scenario, queries it through its socket, and stops it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

from . import events, process

# Quick enough for tests, but slow enough that tests can observe the state "opening".
QUICK = "lock = 1ms\ninit = 10ms\nteardown = 10ms\n"


def scenario(gpus=2, defaults=QUICK, **overrides):
    """The text of a scenario: the number of GPUs, keys for all of them, and gpu3="hang = open" for GPU 3."""
    sections = [f"[gpus]\ncount = {gpus}\n{defaults}"]
    sections += [f"[gpu {name.removeprefix('gpu')}]\n{keys}\n" for name, keys in overrides.items()]
    return "\n".join(sections)


# A client that opens a GPU, prints "open", and closes the GPU when its standard input ends.
JOB = """
import os, socket, sys

how, where, *request = sys.argv[1:]
if how == "node":
    fd = os.open(where, os.O_RDWR | os.O_CLOEXEC | int(request[0]))
else:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(where)
    lines = connection.makefile("rb")
    connection.sendall(request[0].encode() + b"\\n")
    assert b"true" in lines.readline()
print("open", flush=True)
sys.stdin.read()
if how == "node":
    os.close(fd)
else:
    connection.sendall(b'{"verb": "close"}\\n')
    lines.readline()
"""


class Control:
    """Queries and controls a simulated driver through its socket. Subclasses set socket_path."""

    def _connect(self, timeout):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        connection.connect(str(self.socket_path))
        return connection

    @staticmethod
    def _ask(connection, verb, **arguments):
        connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer = json.loads(lines.readline())
        assert answer["ok"], f"holdfast-sim refused {verb} {arguments}: {answer['error']}"
        return answer.get("result")

    def ctl(self, verb, *, timeout=20, **arguments):
        """Runs a verb (docs/simulator.md) and returns its result. Raises an AssertionError with the simulator's message."""
        with self._connect(timeout) as connection:
            return self._ask(connection, verb, **arguments)

    def status(self):
        return self.ctl("status")

    def gpu(self, address):
        return next(gpu for gpu in self.status()["gpus"] if gpu["address"] == address)

    def users(self):
        """How many users have each GPU open."""
        return [gpu["usage_count"] for gpu in self.status()["gpus"]]

    def wait_users(self, *users):
        """Waits until that many users have each GPU open. The simulator may notice a close(2), an exit or a kill a moment later
        (docs/simulator.md, "Closing"). So this is for tests after a stop, an exit or a kill, and after a restart, because a
        daemon that takes a GPU over opens and closes it once."""
        events.wait_until(lambda: self.users() == list(users), f"users of each GPU: {users}", timeout=20)

    def journal(self, *names):
        """The events so far, oldest first. If names are given, only the events with these names."""
        records = self.ctl("journal")["records"]
        return [record for record in records if not names or record["event"] in names]

    def list_addresses(self):
        """The GPUs' addresses, in the order of the scenario."""
        return [gpu["address"] for gpu in self.status()["gpus"]]


class Simulator(Control):
    """A holdfast-sim process. mount=True: it serves the driver's files below a folder (FUSE), for the kernel backend.
    mount=False: it serves only a socket, for the shim."""

    def __init__(self, build, directory, text, *, mount):
        self.mount = directory if mount else None
        file = directory.parent / f"{directory.name}.ini"
        file.write_text(text)
        where = ["--root", str(directory)] if mount else ["--socket", str(directory / "sim.socket")]
        self.socket_path = directory / ("run/holdfast-sim/socket" if mount else "sim.socket")
        self._process = subprocess.Popen([build / "sim/holdfast-sim", "run", *where, "--scenario", str(file)],
                                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                         env=os.environ | process.SANITIZER_ENVIRONMENT)
        self.pid = self._process.pid
        self.output = events.Lines("holdfast-sim", self._process.stdout)
        self.errors = events.Lines("holdfast-sim's errors", self._process.stderr)
        try:
            self.output.wait_for("^ready$", timeout=20)
        except AssertionError as error:
            self._kill()
            raise AssertionError(f"{error}\nIts standard error:\n{self.errors.text()}") from None
        self.addresses = self.list_addresses()

    @contextlib.contextmanager
    def open_gpu(self, address, flags=0):
        """Runs a job, a process that has the GPU open meanwhile. The test may kill it.

        flags: additional flags for open(2), if the simulator serves files.
        """
        if self.mount:
            where = ["node", str(self.mount / f"dev/nvidia{self.gpu(address)['minor']}"), str(flags)]
        else:
            numbers = [int(part, 16) for part in address.replace(".", ":").split(":")]
            names = ("domain", "bus", "slot", "function")
            where = ["shim", str(self.socket_path), json.dumps({"verb": "open", **dict(zip(names, numbers))})]
        with subprocess.Popen([sys.executable, "-I", "-c", JOB, *where], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as job:
            said = job.stdout.readline()
            assert said == b"open\n", f"the job could not open {address}: {said}"
            yield job

    def stop(self):
        """Stops the simulator with SIGTERM. Whatever happens, neither the process nor the mount remains."""
        if self._process is None:
            return
        try:
            self._process.send_signal(signal.SIGTERM)
            status = self._process.wait(timeout=10)
            self.errors.wait_end(5)
            assert status == 0, f"holdfast-sim ended with {status}:\n{self.errors.text()}"
            assert not self.errors.has(process.SANITIZER_FINDING), self.errors.text()
            self._process = None
        finally:
            if self._process is not None:
                self._kill()

    def _kill(self):
        self._process.kill()
        self._process.wait()
        self._process = None
        if self.mount:  # --lazy also removes the mounts below it, which no path can reach through a dead FUSE mount
            subprocess.run(["umount", "--lazy", str(self.mount)], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def opened(sim, name, flags=0):
    fd = os.open(sim.root / "dev" / name, os.O_RDWR | os.O_CLOEXEC | flags)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):  # the test may have closed it
            os.close(fd)
