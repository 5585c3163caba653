# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Months of a node in minutes: random jobs, Sets, leases, hot-plugs, unbinds, resets, failures, restarts and attacks."""

import collections
import random
import time

import pytest

from actions import ACTIONS
from node import Node

GPUS = 4
CHECK_EVERY = 25  # actions
SHOWN = 40        # of the last actions and log lines, after a failure
LOSSES_MIN = 100  # at least so many initialisations, each of which loses the settings


class Soak:
    def __init__(self, node, seed):
        self.node = node
        self.counts = collections.Counter()
        self.last = collections.deque(maxlen=SHOWN)
        self._source = random.Random(seed)
        self._functions, self._weights = zip(*ACTIONS)

    def act(self):
        """Runs one random action that applies now."""
        while True:
            function = self._source.choices(self._functions, self._weights)[0]
            step = function(self.node, self._source)
            sentence = next(step, None)
            if sentence:
                self.counts[function.__name__] += 1
                self.last.append(f"{sum(self.counts.values()):6} {sentence}")
                for _ in step:
                    raise AssertionError(f"{function.__name__} yields more than one sentence")
                self.node.wait_settings()
                return

    def run_until(self, end):
        while time.monotonic() < end or self.node.n_applied < LOSSES_MIN:
            for _ in range(CHECK_EVERY):
                self.act()
            self.last.append("       check")
            self.node.check()
        self.last.append("       all clients end; the last check")
        self.node.check_last()


@pytest.mark.timeout(0)
def test_daemon_and_simulator_agree_after_random_actions(world, seed, minutes, capsys):
    soak = Soak(Node(world, GPUS), seed)
    try:
        soak.run_until(time.monotonic() + 60 * minutes)
    except Exception as error:
        lines = "\n".join(soak.last)
        log = "\n".join(soak.node.daemon.log.all[-SHOWN:])
        raise AssertionError(f"SEED={seed}: {error!r}\nthe last actions:\n{lines}\nthe end of the daemon's log:\n{log}") \
            from error
    finally:
        soak.node.leave()
        soak.node.settings.stop()
    with capsys.disabled():
        total = sum(soak.counts.values())
        print(f"\nSEED={seed}: {total} actions in {minutes:g} min, checked after every {CHECK_EVERY} and at the end: " +
              ", ".join(f"{count} x {name.replace('_', ' ')}" for name, count in soak.counts.most_common()) +
              f"; settings as wanted after each of {soak.node.n_applied} initialisations")
