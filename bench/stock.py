# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Measures NVIDIA's own nvidia-smi and NVML with our daemon, with NVIDIA's, and without one, in turn. Needs PEER=stock.

The limit is the run without a daemon, in which the client initialises every GPU.
"""

import os
import statistics
import subprocess

from command import cost_of
from contender import Stock, on_node
from figure import Figure
from latency import GPUS

SCENARIO = "lock = 10ms\ninit = 500ms\nteardown = 1ms\n"
LIST_GOAL = 1.05  # times the duration with NVIDIA's daemon
ALONE = "without a daemon"
LISTS = 10  # in a turn

GETS = """
import sys, time
import pynvml as nvml

nvml.nvmlInit()
gpu = nvml.nvmlDeviceGetHandleByIndex(0)
durations = []
for _ in range(int(sys.argv[1])):
    begin = time.monotonic_ns()
    nvml.nvmlDeviceGetPersistenceMode(gpu)
    durations.append(time.monotonic_ns() - begin)
print(*durations)
"""


def run(world, programs, *command):
    return subprocess.run([*on_node(world), *command], env=os.environ | programs.environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, check=True).stdout


def list_msec(world, programs):
    """Returns the duration of one nvidia-smi -L, from its start to its end."""
    spawned = run(world, programs, world.build / "bench/bench-spawn", programs.smi, "-L")
    return cost_of(spawned, "nvidia-smi -L", statuses=(0,)).wall_msec


def get_usec(world, programs, calls):
    """Returns the median of the calls' durations."""
    return statistics.median(map(int, run(world, programs, "/usr/bin/python3", "-c", GETS, str(calls)).split())) / 1000


def measure_beside(world, programs, plan):
    """Returns (milliseconds of a list, microseconds of a Get)."""
    lists = statistics.median(list_msec(world, programs) for _ in range(LISTS))
    return lists, get_usec(world, programs, plan.calls)


def measure(contenders, plan):
    ours, *_, peer = contenders
    if not isinstance(peer, Stock):
        return
    found = {ALONE: [], ours.name: [], peer.name: []}
    for _ in range(plan.rounds):
        with ours.world(GPUS, SCENARIO) as world:
            found[ALONE].append(measure_beside(world, peer.programs, plan))
        for contender in (ours, peer):
            with contender.running(GPUS, SCENARIO) as running:
                found[contender.name].append(measure_beside(running.world, peer.programs, plan))
    for at, name, unit, goal in ((0, f"nvidia-smi -L, {GPUS} GPUs, wall time", "ms", LIST_GOAL),
                                 (1, "nvmlDeviceGetPersistenceMode", "us", None)):
        values = {who: statistics.median(turn[at] for turn in turns) for who, turns in found.items()}
        yield Figure("stock", name, unit, values, limit=values.pop(ALONE), limit_is=ALONE, peer_goal=goal)
