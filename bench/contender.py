# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The measured daemons: Holdfast with both backends, and another daemon, each with its own simulated driver.

They run in the worlds of the system tests (tests/system/harness), started as by a unit of Type=forking. NVIDIA's own
packages (PEER=stock) run unmodified, with the simulated driver's files at the real paths.
"""

import contextlib
import os
import subprocess
import sys
import time

from harness import process
from harness.daemon import Daemon
from harness.events import wait_until
from harness.world import World

OTHER = "HOLDFAST_TEST_DAEMON"  # names another daemon to the harness
START_SEC = 120
STOP_SEC = 30

# Stores the time and executes the daemon, so earlier steps (a mount namespace for its syslog) are not measured.
STAMP = """
import os, sys, time

with open(sys.argv[1], "w") as file:
    file.write(str(time.monotonic_ns()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Running:
    """A started daemon: its world (harness.world.World), the daemon (harness.daemon.Daemon), the duration of its start."""

    def __init__(self, contender, world):
        stamp = world.base / "begin"
        self.world = world
        self.daemon = contender.start(world, prefix=(sys.executable, "-I", "-S", "-c", STAMP, str(stamp)))
        self.ready_sec = (time.monotonic_ns() - int(stamp.read_text())) / 1e9

    @property
    def simulator(self):
        return self.world.sim


class Contender:
    """driver: additional lines for the scenario."""

    gpus_max = 64

    def __init__(self, name, build, backend, program=None, driver=""):
        self.name = name
        self.program = program
        self._build = build
        self._backend = backend
        self._driver = driver

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
        """A world with its simulated driver, in which start() starts the daemon. Both end with the block."""
        with self._pointed_at():
            world = World(self._build, self._backend)
            try:
                world.simulate(gpus, defaults + self._driver, **overrides)
                yield world
            finally:
                world.clean_up()

    def start(self, world, prefix=()):
        """Starts the daemon and returns it when its command has returned. prefix is put before that command."""
        return world.start_forking(prefix=prefix, timeout=START_SEC)

    @contextlib.contextmanager
    def running(self, gpus, defaults, **overrides):
        """Yields the ready daemon. Another daemon may have died or hang at the end of the block, which is not an error."""
        with self.world(gpus, defaults, **overrides) as world:
            running = Running(self, world)
            try:
                yield running
            finally:
                if self.is_ours:
                    running.daemon.stop(timeout=STOP_SEC)
                else:
                    process.kill_and_reap(running.daemon.pid)
                    running.daemon.status = 0


def on_node(world):
    """Returns the prefix for a command that must see the simulated driver's files at the real paths."""
    return [world.build / "sim/holdfast-sim", "exec", "--root", world.site.root, "--"]


class StockDaemon(Daemon):
    """NVIDIA's daemon, unmodified and with its own library."""

    def __init__(self, world, stock, prefix):
        subprocess.run([*on_node(world), *prefix, stock.daemon], env=os.environ | stock.environment, check=True,
                       stdin=subprocess.DEVNULL, timeout=START_SEC)
        wait_until(world.site.pid_file.exists, "NVIDIA's daemon", 20)
        super().__init__(world.site, world.site.pid_in_file())
        self.socket_path.chmod(0o777)  # as in NVIDIA's own build; Debian's allows only root to connect


class Stock(Contender):
    """programs: NVIDIA's programs from Debian's packages (tests/stock/programs.py)."""

    gpus_max = 32  # its library reads the GPUs' ids into an array of this size

    def __init__(self, name, build, programs, driver):
        super().__init__(name, build, "kernel", programs.daemon, driver)
        self.programs = programs

    def _pointed_at(self):
        return contextlib.nullcontext()

    def start(self, world, prefix=()):
        return StockDaemon(world, self.programs, prefix)


def contenders(build, peer=None, stock=None):
    """Returns the contenders, ours first, also with the library, which NVIDIA's daemon always uses. The other daemon is a
    program (peer) or from NVIDIA's packages (stock), which need a driver of the same version."""
    driver = f"[driver]\nversion = {stock.version}\n" if stock else ""
    found = [Contender("holdfast", build, "kernel", driver=driver),
             Contender("over the library", build, "nvidia-cfg", driver=driver)]
    if stock:
        found.append(Stock("peer", build, stock, driver))
    elif peer:
        found.append(Contender("peer", build, "nvidia-cfg", peer))
    return found
