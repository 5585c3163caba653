# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Measures a restart: how long clients cannot connect, and how many GPUs are torn down.

Our daemon is also measured as systemd restarts it, with socket unit and keeper; tests/system/harness/supervisor.py takes
systemd's place. There is no limit: without a supervisor, GPUs are initialised again, which takes the model's time.
"""

import signal
import socket
import statistics
import threading
import time

from figure import OURS, Figure

GPUS = 8
SCENARIO = "lock = 20ms\ninit = 200ms\nteardown = 10ms\n"
BY_SYSTEMD = "holdfast, by systemd's means"


class Prober:
    """Connects repeatedly from a thread, and measures how long connections are refused."""

    def __init__(self, path):
        self._path = str(path)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.longest_sec = 0.0

    def _connects(self):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(self._path)
            except OSError:
                return False
            return True

    def _run(self):
        since = None  # when connections were first refused
        while not self._stop.is_set():
            now = time.monotonic()
            if self._connects():
                since = None
            else:
                since = since or now
                self.longest_sec = max(self.longest_sec, time.monotonic() - since)
            self._stop.wait(0.0005)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def teardowns(simulator):
    return sum(gpu["teardowns"] for gpu in simulator.status()["gpus"])


def restart_service(contender):
    """Returns (seconds without a socket, GPUs torn down), with a manager that keeps the socket, and a keeper."""
    with contender.world(GPUS, SCENARIO) as world:
        service = world.supervise(socket_unit=True)
        service.start().wait_ready()
        with Prober(world.site.socket_path) as prober:
            service.restart(signal.SIGUSR1)
        return prober.longest_sec, teardowns(world.sim)


def restart_alone(contender):
    """Returns the same for a stop followed by a start."""
    with contender.running(GPUS, SCENARIO) as running:
        with Prober(running.daemon.socket_path) as prober:
            running.daemon.stop(timeout=30)
            again = contender.start(running.world)
        torn_down = teardowns(running.simulator)
        if not contender.is_ours:
            again.stop(timeout=30)
        return prober.longest_sec, torn_down


def measure(contenders, plan):
    runs = {BY_SYSTEMD: [restart_service(contenders[0]) for _ in range(plan.rounds)]}
    for contender in contenders:
        runs[contender.name] = [restart_alone(contender) for _ in range(plan.rounds)]
    managed = runs.pop(BY_SYSTEMD)
    for way, goal, found in (("with systemd's socket and the keeper", 0, {OURS: managed}), ("stopped and started", None, runs)):
        for at, what, unit in ((0, "time without a socket", "ms"), (1, "GPUs torn down", "")):
            scale = 1000 if unit else 1
            yield Figure("restart", f"{way}, {what}", unit,
                         {who: scale * statistics.median(pair[at] for pair in pairs) for who, pairs in found.items()},
                         goal=goal)
