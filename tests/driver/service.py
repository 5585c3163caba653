# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The daemon and the command, on the simulator below its root, or on NVIDIA's driver and installed on this machine."""

import json
import os
import subprocess
from pathlib import Path

from harness import events, process
from harness.daemon import ForegroundDaemon, Site


class InstalledSite(Site):
    """The installation by `make install prefix=/usr`, at the real paths."""

    def __init__(self, base):
        super().__init__(base, base, "kernel", None)
        self.root = Path("/")
        self.environment[process.ROOT_VARIABLE] = "/"

    @property
    def program(self):
        return Path("/usr/bin/nvidia-persistenced")

    def command(self, *options):
        return [str(self.program), *options]


class Service:
    """The daemon and the command for one test. daemon is the running daemon; start() starts another one after its end."""

    def __init__(self, driver, build, base):
        self.driver = driver
        self.site = InstalledSite(base) if driver.name == "nvidia" else Site(build, base, "kernel", None)
        self._command = "/usr/bin/holdfast" if driver.name == "nvidia" else build / "src/cli/holdfast"
        self.daemon = None

    def begin(self, *options):
        """Starts a daemon, and does not wait until it is ready."""
        self.daemon = ForegroundDaemon(self.site, "--verbose", *options)
        return self.daemon

    def start(self, *options):
        self.begin(*options).wait_ready(30)
        return self.daemon

    def end(self, number, timeout=10):
        """Ends the daemon with this signal."""
        os.kill(self.daemon.pid, number)
        self.daemon.wait_exit(timeout)
        self.daemon.check_log()

    # ---- the command

    def command(self, *words):
        """Returns the complete command line of `holdfast WORDS`."""
        where = [] if self.site.root == Path("/") else ["--root", str(self.site.root)]
        return [str(self._command), *where, *map(str, words)]

    def holdfast(self, *words, timeout=60):
        """Runs the command; returns returncode, stdout and stderr."""
        environment = self.site.environment | process.SANITIZER_ENVIRONMENT
        return subprocess.run(self.command(*words), env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout, check=False)

    def gpus(self):
        """Returns {address: the daemon's report of the GPU}."""
        done = self.holdfast("status", "--json")
        return {gpu["address"]: gpu for gpu in json.loads(done.stdout)["gpus"]}

    # ---- waiting

    def is_held(self, gpu):
        told = self.gpus().get(self.driver.addresses[gpu])
        return bool(told and told["held"]) and self.driver.gpu(gpu)["usage_count"] == 1

    def wait_held(self, *gpus, timeout=30):
        events.wait_until(lambda: all(self.is_held(gpu) for gpu in gpus), f"GPUs {gpus} are held", timeout)

    def clean_up(self):
        """Ends the daemon. The driver's hangs must have ended before."""
        self.site.machine.close()
        if self.daemon is not None:
            self.daemon.clean_up()
        self.site.end_keepers()
        if self.driver.name == "nvidia":  # if systemd listens on the socket, the keeper is systemd's
            subprocess.run(["systemctl", "stop", "holdfast-keeper.service"], stdin=subprocess.DEVNULL, check=False,
                           timeout=60)
