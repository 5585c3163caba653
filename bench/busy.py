# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Measures how long it takes to find the processes that use GPUs, on a node with many processes and open files.

The limit is the time of fuser or lsof, whichever is faster, for the same GPUs' nodes, measured in turn with ours.
"""

import contextlib
import statistics
import subprocess

from command import run
from figure import OURS, Figure
from latency import GPUS, QUICK

DESCRIPTORS = 50
COMMANDS = {"check": ["--expect", "any"], "metrics": [], "status": [], "clients": [], "doctor": []}
GOAL = 0.5


@contextlib.contextmanager
def many_processes(plan):
    with subprocess.Popen([plan.build / "bench/bench-busy", str(plan.processes), str(DESCRIPTORS)], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as busy:
        assert busy.stdout.readline() == "ready\n", "bench-busy did not start"
        yield


def costs(commands, plan):
    """Returns {name: costs of its runs}."""
    found = {name: [] for name in commands}
    for _ in range(plan.rounds):
        for name, command in commands.items():
            found[name].append(run(plan.build, command))
    return found


def measure(contenders, plan):
    with contenders[0].running(GPUS, QUICK) as running, many_processes(plan):
        root = running.world.site.root
        nodes = [root / f"dev/nvidia{minor}" for minor in range(GPUS)]
        others = {"fuser": ["fuser", *nodes], "lsof": ["lsof", "-n", "-P", *nodes]}
        ours = {name: [plan.build / "src/cli/holdfast", "--root", root, name, *options]
                for name, options in COMMANDS.items()}
        found = costs(others | ours, plan)

    def typical(name, what):
        return statistics.median(getattr(cost, what) for cost in found[name])

    for what, words in (("wall_msec", "wall time"), ("processor_msec", "processor time")):
        limits = {name: typical(name, what) for name in others}
        fastest = min(limits, key=limits.get)
        for name in COMMANDS:
            yield Figure("busy", f"holdfast {name}, {words}", "ms", {OURS: typical(name, what)}, limit=limits[fastest],
                         limit_is=f"{fastest}, the faster of fuser and lsof",
                         ratio_goal=GOAL if what == "wall_msec" else None)
