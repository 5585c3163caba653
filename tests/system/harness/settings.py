# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Runs `holdfast settings serve` as holdfast-settings.service does, with the test's daemon and simulated driver."""

import json
import signal
import subprocess

from . import events, process
from .command import BUILD, PROGRAM, environment
from .events import wait_until

LIBRARY = BUILD / "tests/nvml/libnvidia-ml.so.1"  # a stand-in for NVML that uses the simulated driver
WANTED = "[gpu *]\npower-limit = 500\ngraphics-clocks = 1200-1410\ncompute-mode = exclusive-process\n"
DEFAULTS = {"power_limit_w": 700, "graphics_clock_mhz": 1980, "memory_clock_mhz": 2619, "compute_mode": "Default"}
APPLIED = {"power_limit_w": 500, "graphics_clock_mhz": 1410, "memory_clock_mhz": 2619,
           "compute_mode": "Exclusive_Process"}


class Service:
    """A running `holdfast settings serve`. text: the configuration file."""

    def __init__(self, world, text, *options, **variables):
        self.world = world
        self.root = world.base / "root"
        self.config = world.base / "holdfast.conf"
        self.config.write_text(text)
        self._process = subprocess.Popen(
            [PROGRAM, "--root", self.root, "settings", "serve", "--config", self.config, "--nvml", LIBRARY,
             "--interval", "3600", *options], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=environment(HOLDFAST_SIM_SOCKET=str(world.sim.socket_path), **variables))
        self.pid = self._process.pid
        self.log = events.Lines("holdfast settings serve", self._process.stderr)

    @property
    def state_path(self):
        return self.root / "run/holdfast-settings/state.json"

    def state(self, index=0):
        document = json.loads(self.state_path.read_text())
        return next((gpu for gpu in document["gpus"] if gpu["index"] == index), None)

    def wait_applied(self, index=0, opens=1):
        return wait_until(lambda: self.state_path.exists() and (gpu := self.state(index)) and gpu["applied"]
                          and gpu["opens"] >= opens and gpu, f"settings of GPU {index} applied", timeout=20)

    def kill(self):
        self._process.kill()
        self._process.wait(timeout=20)

    def stop(self, number=signal.SIGTERM):
        if self._process.poll() in (0, -signal.SIGKILL):
            return
        self._process.send_signal(number)
        assert self._process.wait(timeout=20) == 0
        self.log.wait_end(5)
        assert not self.log.has(process.SANITIZER_FINDING), self.log.text()
