# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Measures the microseconds of a GetPersistenceMode call as NVML makes it, with a new connection for each call.

The limit is a server that only accepts, reads, writes and closes, called in turn with the daemon. Each figure is the median
over the turns: the scheduler places processes differently in each turn, so the slowest hundredth of all calls would only
show the worst turn.
"""

import statistics

from echo import call_durations, echo_server
from figure import Figure, quantile

GPUS = 8
QUICK = "lock = 1ms\ninit = 1ms\nteardown = 1ms\n"
CLIENTS = (1, 16)
STATISTICS = (("median", 0.5, 1.2), ("99th percentile", 0.99, 2))
ECHO = "echo server"
TURNS = 3  # for each round of the plan, since turns are short


def sample(contender, plan, clients):
    """Returns the durations (of the daemon, of the echo server), each as a list of turns."""
    ours, echo = [], []
    calls = plan.calls // clients
    with contender.running(GPUS, QUICK) as running, \
            echo_server(plan.build, running.world.base / "echo"):
        for _ in range(TURNS * plan.rounds):
            for path, turns in ((running.daemon.socket_path, ours), (running.world.base / "echo", echo)):
                turns.append(call_durations(plan.build, path, running.world.gpus[0], calls=calls, clients=clients))
    return ours, echo


def typical(turns, share):
    return statistics.median(quantile(durations, share) for durations in turns)


def measure(contenders, plan):
    for clients in CLIENTS:
        durations, echo = {}, []
        for contender in contenders:
            durations[contender.name], beside = sample(contender, plan, clients)
            echo += beside
        for name, share, goal in STATISTICS:
            yield Figure("Get", f"{clients} client{'s' * (clients > 1)}, {name}", "us",
                         {who: typical(turns, share) for who, turns in durations.items()},
                         limit=typical(echo, share), limit_is=ECHO, ratio_goal=goal)
