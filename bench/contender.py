# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Who is measured: Holdfast in both its ways of holding GPUs, and another daemon, each on a simulated driver of its own.

They live in the worlds of the system tests (tests/system/harness), started as a unit of Type=forking starts them.
"""

import contextlib
import os
import sys
import time

from harness import process
from harness.world import World

OTHER = "HOLDFAST_TEST_DAEMON"  # by which the harness is told of another daemon

# Writes down when it begins, and becomes the daemon: what went before (a mount namespace for its syslog) is not its time.
STAMP = """
import os, sys, time

with open(sys.argv[1], "w") as file:
    file.write(str(time.monotonic_ns()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Running:
    """A started daemon: its world (harness.world.World), itself (harness.daemon.Daemon), how long the start took."""

    def __init__(self, world):
        stamp = world.base / "begin"
        self.world = world
        self.daemon = world.start_forking(prefix=(sys.executable, "-I", "-S", "-c", STAMP, str(stamp)), timeout=120)
        self.ready_sec = (time.monotonic_ns() - int(stamp.read_text())) / 1e9

    @property
    def simulator(self):
        return self.world.sim


class Contender:
    def __init__(self, name, build, backend, program=None):
        self.name = name
        self.program = program
        self._build = build
        self._backend = backend

    @property
    def is_ours(self):
        return self.program is None

    @contextlib.contextmanager
    def _pointed_at(self):
        if self.program:
            os.environ[OTHER] = str(self.program)
        try:
            yield
        finally:
            os.environ.pop(OTHER, None)

    @contextlib.contextmanager
    def world(self, gpus, defaults, **overrides):
        """A world with its simulated driver. start() in it what is to be measured; all of it ends with the block."""
        with self._pointed_at():
            world = World(self._build, self._backend)
            try:
                world.simulate(gpus, defaults, **overrides)
                yield world
            finally:
                world.clean_up()

    @contextlib.contextmanager
    def running(self, gpus, defaults, **overrides):
        """The daemon, ready. The other one may be dead or hang by the end of the block, which is no fault of ours."""
        with self.world(gpus, defaults, **overrides) as world:
            running = Running(world)
            try:
                yield running
            finally:
                if not self.is_ours:
                    process.kill_and_reap(running.daemon.pid)
                    running.daemon.status = 0


def contenders(build, peer):
    """Ours first. Over the library too, since that is the only way of NVIDIA's daemon."""
    found = [Contender("holdfast", build, "kernel"), Contender("over the library", build, "nvidia-cfg")]
    return found + ([Contender("peer", build, "nvidia-cfg", peer)] if peer else [])
