# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""One test's world: a simulated driver, the daemons that use it, and a folder. All of them are removed at the end."""

import os
import shutil
import tempfile
from pathlib import Path

from . import process
from .daemon import Daemon, ForegroundDaemon, ForkingDaemon, Site, other_daemon, run_command
from .simulator import QUICK, Simulator, scenario
from .supervisor import Supervisor


def missing_for(backend):
    """Returns what this machine lacks for the backend's tests, or None."""
    if os.geteuid() != 0:
        return "root is missing: tests call as several users" + (" and mount" if backend == "kernel" else "")
    if backend == "kernel" or other_daemon():
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return f"/dev/fuse is missing or cannot be used: {error.strerror}"
    return None


class World:
    def __init__(self, build, backend):
        self.build = build
        self.backend = backend
        # pytest's tmp_path has mode 0700, but callers with other uids must reach the socket.
        self.base = Path(tempfile.mkdtemp(prefix="holdfast-test-"))
        self.base.chmod(0o755)
        (self.base / "root/run").mkdir(parents=True)
        self.sim = None
        self._site = None
        self._daemons = []

    # ---- the node

    def simulate(self, gpus=2, defaults=QUICK, **overrides):
        """Starts the simulated driver with a scenario (harness/simulator.py). Call it once, before the daemon starts."""
        assert self.sim is None, "this world already has a driver"
        text = scenario(gpus, defaults, **overrides)
        mount = self.backend == "kernel" or bool(other_daemon())
        self.sim = Simulator(self.build, self.base / "root", text, mount=mount)
        return self.sim

    def without_driver(self):
        """Leaves the driver unloaded: daemons can be started, and simulate() loads the driver later."""
        self._site = Site(self.build, self.base, self.backend, None)

    def block_uevents(self):
        """Occupies the path of the daemon's socket for uevents. Call this before the daemon starts."""
        (self.base / "root/run/nvidia-persistenced/uevents").mkdir(parents=True)

    @property
    def site(self):
        if self._site is None:
            self._site = Site(self.build, self.base, self.backend, (self.sim or self.simulate()).socket_path)
        return self._site

    @property
    def gpus(self):
        """The GPUs' addresses, in the order of the scenario."""
        return self.sim.addresses

    # ---- starting

    def start(self, *options) -> Daemon:
        """Starts the daemon under test and waits until it is ready."""
        if other_daemon():
            return self.start_forking(*options)
        daemon = self.begin(*options)
        daemon.wait_ready()
        return daemon

    def begin(self, *options, **how) -> ForegroundDaemon:
        """Starts our daemon in the foreground, and does not wait until it is ready. how: see ForegroundDaemon."""
        return self._keep(ForegroundDaemon(self.site, *options, **how))

    def supervise(self, *options, **how) -> Supervisor:
        """Makes our daemon a service of a service manager, not yet started. how: see Supervisor."""
        return self._keep(Supervisor(self.site, *options, **how))

    def start_forking(self, *options, **how) -> ForkingDaemon:
        return self._keep(ForkingDaemon(self.site, *options, **how))

    def run(self, *options, **how):
        """Runs the daemon's command until it returns, for starts that should fail and options that only print."""
        return run_command(self.site, *options, **how)

    def _keep(self, daemon):
        self._daemons.append(daemon)
        return daemon

    # ---- the end

    def clean_up(self):
        ends = [daemon.clean_up for daemon in reversed(self._daemons)]
        ends += [self._site.end_keepers] if self._site else []
        ends += [self.sim.stop] if self.sim else []
        ends += [self._site.machine.close] if self._site else []
        ends.append(process.assert_childless)
        faults = []
        for end in ends:
            try:
                end()
            except AssertionError as fault:
                faults.append(str(fault))
        assert not os.path.ismount(self.base / "root"), f"the simulator left its mount at {self.base}/root"
        shutil.rmtree(self.base)
        assert not faults, "\n".join(faults)
