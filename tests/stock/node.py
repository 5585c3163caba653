# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A node of simulated GPUs on which NVIDIA's programs run, with our daemon, with NVIDIA's, or without one."""

import contextlib
import os
import signal
import subprocess

from harness import process
from harness.command import holdfast
from harness.events import wait_until
from harness.simulator import QUICK

NOBODY = 65534
DAEMON = "nvidia-persiste"  # either daemon, as the kernel cuts its name


class Node:
    def __init__(self, world, stock, gpus, version=None):
        self.world = world
        self.stock = stock
        self.sim = world.simulate(gpus, f"{QUICK}[driver]\nversion = {version or stock.version}\n")
        self.root = world.site.root
        self.gpus = world.gpus
        self.peer = None

    def command(self, *words):
        return [self.world.build / "sim/holdfast-sim", "exec", "--root", self.root, "--", *words]

    @property
    def environment(self):
        return os.environ | self.stock.environment | process.SANITIZER_BEHIND_PRELOAD

    def run(self, *words, timeout=60, **how):
        """Runs a command on the node. user=: changes to this user before the command starts."""
        user = how.pop("user", None)
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"] if user else []
        return subprocess.run(self.command(*as_user, *words), env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False, **how)

    def smi(self, *words, **how):
        """Runs nvidia-smi; returns (exit status, lines)."""
        done = self.run(self.stock.smi, *words, **how)
        return done.returncode, done.stdout.splitlines()

    def modes(self):
        """Returns the persistence mode of each GPU as nvidia-smi reports it."""
        status, lines = self.smi("--query-gpu=persistence_mode", "--format=csv,noheader")
        assert status == 0, lines
        return lines

    def python(self, code, **how):
        done = self.run("/usr/bin/python3", "-c", code, **how)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def holdfast(self, *words, **how):
        return holdfast(self.root, *words, **how)

    def holders(self, gpu):
        """Returns the names of the processes that have the GPU's node open, as the simulator reports them."""
        return sorted({handle["comm"] for handle in self.sim.gpu(gpu)["handles"] if handle["node"] == "gpu"})

    def wait_holders(self, *holders):
        """Waits until each GPU is open in these processes."""
        wait_until(lambda: [self.holders(gpu) for gpu in self.gpus] == list(holders), f"holders: {holders}", 20)

    # ---- daemons

    def start(self, which):
        """Starts our daemon ("ours"), NVIDIA's ("theirs") or "none". A daemon holds every GPU."""
        if which == "ours":
            self.world.start()
        elif which == "theirs":
            self.start_peer()

    def start_peer(self, *options):
        """Starts NVIDIA's daemon. It goes into the background after it has opened the GPUs."""
        done = self.run(self.stock.daemon, *options)
        assert done.returncode == 0, done.stdout
        pid_file = self.root / "run/nvidia-persistenced/nvidia-persistenced.pid"
        wait_until(lambda: pid_file.exists() and pid_file.read_text(), "NVIDIA's daemon", 20)
        self.peer = int(pid_file.read_text())

    def end_peer(self):
        if self.peer:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.peer, signal.SIGTERM)
            assert process.wait_gone(self.peer, 20), "NVIDIA's daemon does not end"
            process.kill_and_reap(self.peer)
        self.peer = None
