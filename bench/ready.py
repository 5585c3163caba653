# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Measures the seconds until the daemon's command returns, which is when it has tried every GPU.

The limit is the time of the driver's model: the part of an initialisation under the lock runs for one GPU after another,
the rest in parallel. Another daemon starts only once for each figure, because it needs half a minute for 64 GPUs.
"""

import statistics

from figure import Figure

# Milliseconds under the driver's global lock, outside it, and outside it for the slowest GPU.
SHARES = (
    (10, 500, 500),
    (100, 100, 100),
    (50, 300, 1000),
)
GPUS = (1, 8, 16, 64)
GOAL = 1.1


def start_sec(contender, gpus, shares):
    lock, init, slowest = shares
    defaults = f"lock = {lock}ms\ninit = {init}ms\nteardown = 1ms\n"
    with contender.running(gpus, defaults, gpu0=f"init = {slowest}ms") as running:
        return running.ready_sec


def measure(contenders, plan):
    for shares in plan.some(SHARES):
        for gpus in GPUS:
            times = {contender.name: [] for contender in contenders}
            for turn in range(plan.rounds):
                for contender in contenders:
                    if contender.is_ours or (turn == 0 and gpus <= contender.gpus_max):
                        times[contender.name].append(start_sec(contender, gpus, shares))
            lock, init, slowest = shares
            name = f"{gpus} GPU{'s' * (gpus > 1)}, each {lock} ms under the lock and {init} ms outside it"
            yield Figure("ready", name + f", one {slowest} ms" * (slowest != init), "s",
                         {who: statistics.median(values) if values else None for who, values in times.items()},
                         limit=(gpus * lock + slowest) / 1000, limit_is="the model's time", ratio_goal=GOAL)
