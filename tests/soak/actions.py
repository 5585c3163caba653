# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The random actions on a node, with their frequency.

    @action(weight)
    def name(node, source): ...

defines an action. It is a generator: it decides what to do, yields a sentence that describes it for the record, and then
does it. An action that does not apply now yields nothing.
"""

import contextlib
import signal

from harness import process, rpc

ACTIONS = []

JOBS_MAX = 6
LEASES_MAX = 3


def action(weight):
    def enter(function):
        ACTIONS.append((function, weight))
        return function
    return enter


def some(source, things):
    """Returns a random element, or None if there is none."""
    things = list(things)
    return source.choice(things) if things else None


def bound(node):
    return [gpu for gpu in node.gpus if gpu.is_bound]


def get_record(gpu):
    return rpc.record(rpc.call_message(1, rpc.V1_GET, rpc.device(gpu.address)))


# ---- jobs


@action(12)
def a_job_begins(node, source):
    gpu = some(source, [gpu for gpu in bound(node) if len(gpu.jobs) < JOBS_MAX])
    if gpu:
        yield f"a job opens {gpu.address}"
        node.begin_job(gpu)


@action(10)
def a_job_ends(node, source):
    gpu = some(source, [gpu for gpu in node.gpus if gpu.jobs])
    killed = source.random() < 0.3
    if gpu:
        yield f"a job on {gpu.address} {'is killed' if killed else 'ends'}"
        node.end_job(gpu, killed=killed)


# ---- orders


@action(8)
def a_set(node, source):
    gpu, mode = source.choice(node.gpus), source.choice((rpc.ENABLED, rpc.ENABLED, rpc.DISABLED))
    yield f"Set {gpu.address} to {mode}"
    node.set(gpu, mode)


@action(6)
def a_lease_begins(node, source):
    gpus = source.sample(node.gpus, source.randint(1, len(node.gpus)))
    if len(node.leases) < LEASES_MAX:
        yield f"a lease of {', '.join(gpu.address for gpu in gpus)}"
        node.begin_lease(gpus)


@action(6)
def a_lease_ends(node, source):
    if node.leases:
        at = source.randrange(len(node.leases))
        yield f"lease {at} of {len(node.leases)} ends"
        node.end_lease(at)


# ---- GPUs come and go


@action(3)
def a_gpu_is_taken_away(node, source):
    gpu, verb = some(source, bound(node)), source.choice(("unbind", "remove"))
    if gpu:
        yield f"{verb} {gpu.address}, with {len(gpu.jobs)} jobs that end"
        node.take_away(gpu, verb)


@action(5)
def a_gpu_comes_back(node, source):
    gpu = some(source, [gpu for gpu in node.gpus if not gpu.is_bound])
    if gpu:
        yield f"{gpu.address} comes back"
        node.bring_back(gpu)


@action(1)
def a_driver_reload(node, source):
    gpus = bound(node)
    if gpus:
        yield f"reload of the driver with {len(gpus)} GPUs"
        for gpu in gpus:
            node.take_away(gpu, "unbind")
        for gpu in gpus:
            node.bring_back(gpu)


@action(3)
def a_reset(node, source):
    gpu = some(source, bound(node))
    if gpu:
        yield f"a reset of {gpu.address} under a lease"
        node.reset(gpu)


@action(2)
def a_failing_initialisation(node, source):
    gpu = some(source, [gpu for gpu in bound(node) if gpu.is_held and not gpu.jobs])
    if gpu:
        yield f"Set {gpu.address} off and on, and its next initialisation fails"
        node.fail_once(gpu)


# ---- the daemon


@action(3)
def a_restart(node, source):
    number = source.choice((signal.SIGUSR1, signal.SIGKILL))
    yield f"restart by {number.name}"
    node.restart(number)


@action(1)
def a_reload(node, source):
    yield "reload"
    node.reload()


# ---- attacks


@action(3)
def hang_ups(node, source):
    gpu, count = source.choice(node.gpus), source.randint(1, 50)
    yield f"{count} clients hang up before the answer"
    for _ in range(count):
        with node.daemon.connect() as connection:
            connection.send(get_record(gpu))


@action(3)
def half_records(node, source):
    record = get_record(source.choice(node.gpus))
    lengths = [source.randrange(len(record)) for _ in range(source.randint(1, 20))]
    yield f"{len(lengths)} clients send half a record and stay"
    for length in lengths:
        connection = node.daemon.connect()
        connection.send(record[:length])
        node.keep_hostile(connection)


@action(3)
def random_bytes(node, source):
    data = [source.randbytes(source.randrange(1, 400)) for _ in range(source.randint(1, 20))]
    yield f"{len(data)} clients send random bytes"
    for piece in data:
        with node.daemon.connect() as connection, contextlib.suppress(OSError):
            connection.send(piece)


@action(2)
def a_client_that_never_reads(node, source):
    calls = get_record(source.choice(node.gpus)) * source.randint(1, 5000)
    yield f"a client sends {len(calls)} bytes of calls and never reads"
    connection = node.daemon.connect(timeout=0.2)
    with contextlib.suppress(OSError):
        connection.send(calls)
    node.keep_hostile(connection)


@action(1)
def a_set_by_another_user(node, source):
    gpu = some(source, bound(node))
    if gpu:
        yield f"uid {process.NOBODY} sets {gpu.address} to {rpc.DISABLED}"
        answer = node.daemon.call_as_nobody("set_only", gpu.address, rpc.DISABLED)
        assert answer == str(rpc.PERMISSIONS), f"a Set by another user is answered with {answer}"
