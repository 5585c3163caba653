# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Measures the operator's command: time, memory, system calls, and that it initialises no GPU.

The limit, the best possible value, is that of a program that does nothing, started in the same way. The daemon holds half
of the GPUs. The other half is cold, so the simulator would count an initialisation if the command opened one of them.
"""

import dataclasses
import statistics
import subprocess

from harness import rpc

from figure import OURS, Figure
from latency import GPUS, QUICK

COMMANDS = (("check", ["--expect", "any"]), ("status", []))
CHECK_GOAL_MSEC = 3


@dataclasses.dataclass
class Cost:
    """The cost of a process and its children, from its start to its end. peak_kb is the largest process's peak of memory."""
    wall_msec: float
    processor_msec: float
    peak_kb: int


def cost_of(spawned, command, statuses):
    """Parses the output of bench-spawn."""
    wall_nsec, peak_kb, processor_nsec, status = map(int, spawned.split())
    assert status in statuses, f"{command} ended with {status}"
    return Cost(wall_nsec / 1e6, processor_nsec / 1e6, peak_kb)


def run(build, command):
    done = subprocess.run([build / "bench/bench-spawn", *command], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    return cost_of(done.stdout, command, statuses=(0, 1))


def count_calls(command, log):
    """Counts the system calls of all its threads."""
    subprocess.run(["strace", "-f", "-o", log, *command], stdout=subprocess.DEVNULL, check=False)
    return sum("(" in line and "resumed>" not in line for line in log.read_text().splitlines())


def initialisations(simulator):
    return sum(gpu["initialisations"] for gpu in simulator.status()["gpus"])


def figures(name, command, plan, simulator):
    before = initialisations(simulator)
    ours, bare = [], []
    for _ in range(plan.commands):
        ours.append(run(plan.build, command))
        bare.append(run(plan.build, ["/bin/true"]))
    calls = count_calls(command, plan.scratch / "strace"), count_calls(["/bin/true"], plan.scratch / "strace")
    opened = initialisations(simulator) - before
    for field, what, unit, goal in (("wall_msec", "wall time", "ms", CHECK_GOAL_MSEC if name == "check" else None),
                                    ("peak_kb", "peak memory", "kB", None)):
        value, limit = (statistics.median(getattr(cost, field) for cost in costs) for costs in (ours, bare))
        yield Figure("command", f"holdfast {name}, {what}", unit, {OURS: value}, limit, "/bin/true", goal=goal)
    yield Figure("command", f"holdfast {name}, system calls", "", {OURS: calls[0]}, calls[1], "/bin/true")
    yield Figure("command", f"holdfast {name}, GPUs initialised", "", {OURS: opened}, goal=0)


def measure(contenders, plan):
    with contenders[0].running(GPUS, QUICK) as running:
        for address in running.world.gpus[:GPUS // 2]:
            assert running.daemon.set(address, rpc.DISABLED) == rpc.SUCCESS
        for name, options in COMMANDS:
            command = [plan.build / "src/cli/holdfast", "--root", running.world.site.root, name, *options]
            yield from figures(name, command, plan, running.simulator)
