# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Microseconds for GetPersistenceMode as NVML asks: a connection of its own for each call.

The limit is a server that does nothing but accept, read, write and close, asked in turn with the daemon.
"""

from echo import call_durations, echo_server
from figure import Figure, quantile

GPUS = 8
QUICK = "lock = 1ms\ninit = 1ms\nteardown = 1ms\n"
CLIENTS = (1, 16)
STATISTICS = (("median", 0.5, 1.3), ("99th percentile", 0.99, 2))
ECHO = "echo server"


def sample(contender, plan, clients):
    """(the daemon's durations, the echo server's), in turns."""
    ours, echo = [], []
    calls = plan.calls // clients
    with contender.running(GPUS, QUICK) as running, \
            echo_server(plan.build, running.world.base / "echo"):
        for _ in range(plan.rounds):
            ours += call_durations(plan.build, running.daemon.socket_path, running.world.gpus[0], calls=calls,
                                   clients=clients)
            echo += call_durations(plan.build, running.world.base / "echo", running.world.gpus[0], calls=calls,
                                   clients=clients)
    return ours, echo


def measure(contenders, plan):
    for clients in CLIENTS:
        durations, echo = {}, []
        for contender in contenders:
            durations[contender.name], beside = sample(contender, plan, clients)
            echo += beside
        for name, share, goal in STATISTICS:
            yield Figure("Get", f"{clients} client{'s' * (clients > 1)}, {name}", "us",
                         {who: quantile(values, share) for who, values in durations.items()},
                         limit=quantile(echo, share), limit_is=ECHO, ratio_goal=goal)
