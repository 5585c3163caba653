# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Measures how long honest clients wait while attackers hold a thousand connections and misuse them.

There are two honest clients: root, and a user who is not an attacker. The limit, the best possible value, is that of our
daemon without the attack. A call that is not answered within two seconds counts as failed.
"""

import contextlib
import dataclasses
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from harness import crowd, holdfast_rpc, process, rpc

from echo import FAILED, call_durations, short_path
from figure import Figure, quantile
from latency import GPUS, QUICK

CONNECTIONS = 1000
CROWD = Path(crowd.__file__).read_text()
HONEST = {"root": 0, "a user": 4711}
GOAL_USEC = {"root": 5_000, "a user": 50_000}  # for the 99th percentile


@dataclasses.dataclass
class Attack:
    """users: how many uids attack, if more than one. record: makes a record from a GPU's address and a serial number."""
    name: str
    kind: str
    users: int = 0
    prefix: tuple = ()
    record: object = lambda address, serial: get_record(address)


def get_record(address):
    return rpc.record(rpc.call_message(1, rpc.V1_GET, rpc.device(address)))


def holdfast_record(procedure, args=b""):
    return rpc.record(rpc.call_message(holdfast_rpc.VERSION, procedure, args, program=holdfast_rpc.PROGRAM))


ATTACKS = (
    *(Attack(f"{CONNECTIONS} connections {kind}", kind) for kind in crowd.ATTACKS if kind != "never read"),
    Attack(f"{CONNECTIONS} connections of as many users", "idle", users=CONNECTIONS),
    Attack(f"{CONNECTIONS} connections of as many users flood", "flood", users=CONNECTIONS),
    Attack(f"{CONNECTIONS} Watches of a container's root", "flood", prefix=("unshare", "--pid", "--fork", "--kill-child"),
           record=lambda address, serial: holdfast_record(holdfast_rpc.WATCH, rpc.words(0, serial))),
    Attack(f"{CONNECTIONS} connections never read their lists", "never read",
           record=lambda address, serial: holdfast_record(holdfast_rpc.LIST)),
)


def serial_of(path):
    """Returns the serial number in List's answer, or 0 for another daemon, which does not have List."""
    with holdfast_rpc.Connection(path) as connection:
        try:
            return connection.list()["serial"]
        except AssertionError:
            return 0


@contextlib.contextmanager
def attacked(path, attack, address):
    """Attacks from a child process. It runs as root if it must connect as a thousand users or as a container's root, otherwise
    as nobody. Its program is passed as text, because other users may be unable to read our files."""
    record = attack.record(address, serial_of(path))
    limits = (2 * CONNECTIONS, 2 * CONNECTIONS)
    who = {} if attack.users or attack.prefix else {"user": process.NOBODY, "group": process.NOBODY, "extra_groups": []}
    with short_path(path) as (folder, name), \
            subprocess.Popen([*attack.prefix, sys.executable, "-I", "-c", CROWD, name, attack.kind, str(CONNECTIONS),
                              str(attack.users), record.hex()],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[folder], cwd="/",
                             start_new_session=True,
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits), **who) as attacker:
        try:
            assert attacker.stdout.readline() == b"connected\n", "the attack did not begin"
            yield
        finally:
            os.killpg(attacker.pid, signal.SIGKILL)


def ask(running, plan, limit_sec):
    """Returns {honest client: durations}, one call after another."""
    return {name: call_durations(plan.build, running.daemon.socket_path, running.world.gpus[0], calls=plan.attack_calls,
                                 limit_sec=limit_sec, uid=uid) for name, uid in HONEST.items()}


def ask_all(running, plan):
    """Asks our daemon. Each client must make all its calls, because the goal is that none of them fails."""
    samples = ask(running, plan, plan.attack_sec)
    for name, durations in samples.items():
        assert len(durations) == plan.attack_calls, f"{name} made only {len(durations)} calls in {plan.attack_sec} s"
    return samples


def at_peace(contender, plan):
    with contender.running(GPUS, QUICK) as running:
        return ask_all(running, plan)


def under(attack, contender, plan):
    """Another daemon than ours might need hours for all calls, so it gets a few seconds."""
    with contender.running(GPUS, QUICK) as running, attacked(running.daemon.socket_path, attack, running.world.gpus[0]):
        return ask_all(running, plan) if contender.is_ours else ask(running, plan, plan.attack_other_sec)


def answered(durations):
    return [duration for duration in durations if duration is not FAILED]


def figures(attack, honest, peace, samples):
    """peace: durations of our daemon without attack; samples: {contender: durations under attack}."""
    for name, share, goal in (("median", 0.5, None), ("99th percentile", 0.99, GOAL_USEC[honest])):
        yield Figure("attack", f"{attack.name}, {honest}: {name}", "us",
                     {who: quantile(answered(durations), share) if answered(durations) else None
                      for who, durations in samples.items()},
                     limit=quantile(answered(peace), share), limit_is="without the attack", goal=goal)
    yield Figure("attack", f"{attack.name}, {honest}: calls not answered in 2 s", "%",
                 {who: 100 * durations.count(FAILED) / len(durations) for who, durations in samples.items()}, goal=0)


def measure(contenders, plan):
    """Measures our daemon only with its own backend: how GPUs are held does not affect how clients are served."""
    ours, *others = contenders
    subjects = [ours, *(other for other in others if not other.is_ours)]
    peace = at_peace(ours, plan)
    for attack in ATTACKS:
        samples = {subject.name: under(attack, subject, plan) for subject in subjects}
        for honest in HONEST:
            yield from figures(attack, honest, peace[honest], {who: of[honest] for who, of in samples.items()})
