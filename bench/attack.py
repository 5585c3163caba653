# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What an honest client waits while another user has a thousand connections and does its worst with them.

The limit of each daemon is itself without the attack. A call that is not answered within two seconds has failed.
"""

import contextlib
import resource
import subprocess
import sys
from pathlib import Path

from harness import process, rpc

import crowd
from echo import FAILED, call_durations, short_path
from figure import Figure, quantile
from latency import GPUS, QUICK

CONNECTIONS = 1000
CROWD = Path(crowd.__file__).read_text()


@contextlib.contextmanager
def attacked(path, kind, address):
    """By another user, with descriptors enough. (A source text and not a file: that user may not reach our files.)"""
    record = rpc.record(rpc.call_message(1, rpc.V1_GET, rpc.device(address)))
    limits = (2 * CONNECTIONS, 2 * CONNECTIONS)
    with short_path(path) as (folder, name), \
            subprocess.Popen([sys.executable, "-I", "-c", CROWD, name, kind, str(CONNECTIONS), record.hex()],
                             stdout=subprocess.PIPE, pass_fds=[folder], cwd="/",
                             user=process.NOBODY, group=process.NOBODY, extra_groups=[],
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)) as attacker:
        try:
            assert attacker.stdout.readline() == b"ready\n", "the attack did not begin"
            yield
        finally:
            attacker.kill()


def sample(contender, kind, plan):
    """(durations at peace, durations under attack) of an honest client, one call after another."""
    with contender.running(GPUS, QUICK) as running:
        def ask():
            return call_durations(plan.build, running.daemon.socket_path, running.world.gpus[0], calls=plan.calls,
                                  limit_sec=plan.attack_sec)
        peace = ask()
        with attacked(running.daemon.socket_path, kind, running.world.gpus[0]):
            return peace, ask()


def answered(durations):
    return [duration for duration in durations if duration is not FAILED]


def measure(contenders, plan):
    for kind in crowd.KINDS:
        samples = {contender.name: sample(contender, kind, plan) for contender in contenders}
        peace = samples[contenders[0].name][0]
        for name, share in (("median", 0.5), ("99th percentile", 0.99)):
            yield Figure("attack", f"{CONNECTIONS} connections {kind}, {name}", "us",
                         {who: quantile(answered(durations), share) if answered(durations) else None
                          for who, (_, durations) in samples.items()},
                         limit=quantile(answered(peace), share), limit_is="without the attack")
        yield Figure("attack", f"{CONNECTIONS} connections {kind}, calls not answered in 2 s", "%",
                     {who: 100 * durations.count(FAILED) / len(durations) for who, (_, durations) in samples.items()},
                     goal=0)
