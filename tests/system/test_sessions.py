# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Clients that are slow, gone, greedy or mad: none of them delays or ends anything for anybody else."""

import random
import resource
import select
import socket
import subprocess
import sys
import time

import pytest

from harness import process, rpc
from harness.events import wait_until

# NVIDIA's serves one client at a time; what happens then was measured, and is what we are for.
pytestmark = [
    pytest.mark.holdfast_only("NVIDIA's stalls or dies"),
    pytest.mark.one_backend("the GPUs are held already, and stay so, whatever the clients do"),
]

PROMPT_SEC = 2  # on a busy machine too; whoever stalls the daemon does so for ten seconds or for ever


@pytest.fixture
def many_descriptors():
    """The test's own limit, for more connections than the daemon may have descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(4096, before[0]), max(4096, before[1])))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def get_record(address, **parts):
    return rpc.record(rpc.call_message(1, rpc.V1_GET, rpc.device(address), **parts))


def assert_prompt(daemon, world, what):
    """Another client is served at once."""
    start = time.monotonic()
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    took = time.monotonic() - start
    assert took < PROMPT_SEC, f"{what}: another client waited {took:.3f} s"


@pytest.mark.parametrize("length", [1, 4, 5, 30, 59])
def test_half_a_record_and_silence_delay_no_other_client(daemon, world, length):
    with daemon.connect() as silent:
        record = get_record(world.gpus[0])
        silent.send_until_taken(record[:length])
        assert_prompt(daemon, world, f"{length} bytes and silence")
        silent.send(record[length:])
        assert silent.receive().results == [rpc.SUCCESS, rpc.ENABLED], "and the silent one may still go on"


def test_many_half_records_delay_no_other_client(daemon, world):
    halves = [daemon.connect() for _ in range(100)]
    for half in halves:
        half.send_until_taken(get_record(world.gpus[0])[:20])
    assert_prompt(daemon, world, "100 halves")
    for half in halves:
        half.close()


def fill(connection, data, limit):
    """Sends until the daemon takes no more (for a while that is long for it), or the limit; how many bytes went."""
    sent = 0
    connection.socket.setblocking(False)
    while sent < limit and select.select([], [connection.socket], [], 0.3)[1]:
        sent += connection.socket.send(data)
    return sent


def test_a_client_that_sends_and_never_reads_is_held_back_and_delays_nobody(daemon, world):
    with daemon.connect() as slow:
        data = get_record(world.gpus[0])
        before = memory_kib(daemon)
        sent = fill(slow, data * 100, limit=8 << 20)
        assert sent < 8 << 20, "the daemon must stop to read"
        assert_prompt(daemon, world, "a slow reader")
        assert memory_kib(daemon) - before < 4096, "and must not keep what the client does not read"


def memory_kib(daemon):
    return int(process.status_fields(daemon.pid)["VmRSS"].split()[0])


def test_a_slow_reader_gets_all_its_answers_in_the_end(daemon, world):
    count = 3000
    records = b"".join(get_record(world.gpus[0], xid=number) for number in range(count))
    with daemon.connect(timeout=20) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.socket.setblocking(False)
        view, answers = memoryview(records), 0
        while view:
            try:
                view = view[slow.socket.send(view):]
            except BlockingIOError:  # both sides are full: time to read one
                slow.socket.settimeout(20)
                assert slow.receive().xid == answers
                answers += 1
                slow.socket.setblocking(False)
        slow.socket.settimeout(20)
        assert [slow.receive().xid for _ in range(answers, count)] == list(range(answers, count))


def sockets(daemon):
    return sum(target.startswith("socket:") for target in process.open_files(daemon.pid).values())


def test_ten_thousand_hang_ups_before_the_reply_leave_the_daemon_alive(daemon, world):
    record = get_record(world.gpus[0])
    before = sockets(daemon)
    for _ in range(10_000):
        with daemon.connect() as connection:
            connection.send(record)
    assert daemon.is_running
    assert_prompt(daemon, world, "10,000 hang-ups")
    wait_until(lambda: sockets(daemon) <= before, "all descriptors of sessions that hung up closed")


def test_hang_ups_in_the_middle_of_a_record_leave_the_daemon_alive(daemon, world):
    record = get_record(world.gpus[0])
    for length in range(len(record)):
        with daemon.connect() as connection:
            connection.send(record[:length])
    assert_prompt(daemon, world, "hang-ups at every byte")


@pytest.mark.both_backends
def test_a_set_whose_client_hangs_up_is_done_all_the_same(world):
    world.simulate(gpus=2, defaults="lock = 0ms\ninit = 10ms\nteardown = 200ms\n")
    daemon = world.start("--verbose")
    with daemon.connect() as connection:
        args = rpc.device(world.gpus[0]) + rpc.words(rpc.DISABLED)
        connection.send_until_taken(rpc.record(rpc.call_message(2, rpc.V2_SET_ONLY, args)))
    daemon.wait_for_log(rf"device {world.gpus[0]} - persistence mode disabled\.")
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.DISABLED)


def test_random_bytes_leave_the_daemon_alive(daemon, world):
    source = random.Random(35006)  # the same bytes in every run
    for _ in range(3000):
        with daemon.connect() as connection:
            send_what_is_taken(connection, source.randbytes(source.randrange(1, 400)))
    assert_prompt(daemon, world, "random bytes")


def send_what_is_taken(connection, data):
    """The daemon may end the session while we still send."""
    try:
        connection.send(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def test_garbled_calls_leave_the_daemon_alive_and_change_nothing(daemon, world):
    """A valid Set with one byte changed, each byte, several values: whatever it means then, it is answered or refused."""
    message = rpc.call_message(2, rpc.V2_SET_NUMA, rpc.device(world.gpus[0]) + rpc.words(5))
    for at in range(len(message)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
            with daemon.connect() as connection:
                garbled = message[:at] + bytes([value]) + message[at + 1:]
                send_what_is_taken(connection, rpc.record(garbled))
    assert_prompt(daemon, world, "garbled calls")


@pytest.mark.parametrize("length", [8192, 0x00FFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("last", [0, rpc.LAST_FRAGMENT], ids=["a first fragment", "a whole record"])
def test_a_huge_record_ends_its_session_and_no_other(daemon, world, length, last):
    with daemon.connect() as honest, daemon.connect() as huge:
        before = memory_kib(daemon)
        send_what_is_taken(huge, rpc.words(last | length) + bytes(64))
        assert_ended(huge)
        assert honest.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
        assert memory_kib(daemon) - before < 1024, "nothing is allocated because a client says so"


def assert_ended(connection):
    try:
        assert connection.socket.recv(1) == b"", "an answer to what can be none"
    except ConnectionResetError:
        pass


def test_fragments_without_end_end_their_session(daemon, world):
    with daemon.connect() as endless:
        send_what_is_taken(endless, rpc.words(0) * 10_000)
        assert_ended(endless)
    assert_prompt(daemon, world, "empty fragments")


def test_a_reply_sent_to_the_daemon_ends_the_session_without_an_answer(daemon, world):
    with daemon.connect() as connection:
        connection.send(rpc.record(rpc.words(7, rpc.REPLY, 0, 0, 0, 0)))
        connection.send(get_record(world.gpus[0], xid=8))
        try:
            assert connection.receive().xid == 8, "a reply is answered"
        except (EOFError, ConnectionResetError):
            pass
    assert_prompt(daemon, world, "a reply")


def cpu_share(daemon, interval=0.5):
    """Of one CPU, over an interval in which nothing is asked: that nothing happens has no event to wait for."""
    before = process.cpu_seconds(daemon.pid)
    assert not process.wait_gone(daemon.pid, interval)
    return (process.cpu_seconds(daemon.pid) - before) / interval


CROWD = """
import resource, socket, sys

resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
crowd = [socket.socket(socket.AF_UNIX) for _ in range(1100)]
for connection in crowd:
    connection.connect(sys.argv[1])
print("connected", flush=True)
sys.stdin.read()
"""


def test_1100_idle_connections_of_another_user_do_not_keep_root_out(world, many_descriptors):
    world.simulate()
    daemon = world.begin(prefix=["prlimit", "--nofile=1024:1024"])
    daemon.wait_ready()
    with subprocess.Popen([sys.executable, "-I", "-c", CROWD, daemon.socket_path], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, user=process.NOBODY, group=process.NOBODY, extra_groups=[],
                          cwd="/") as crowd:
        assert crowd.stdout.readline() == b"connected\n"
        assert_prompt(daemon, world, "1100 idle connections of another user")
        assert cpu_share(daemon) < 0.1, "and the daemon does not spin"
        crowd.stdin.close()
        assert crowd.wait(timeout=10) == 0


@pytest.mark.both_backends
def test_1100_idle_connections_do_not_keep_a_client_out(world, many_descriptors):
    world.simulate()
    daemon = world.begin(prefix=["prlimit", "--nofile=1024:1024"])
    daemon.wait_ready()
    idle = [daemon.connect() for _ in range(1100)]
    assert_prompt(daemon, world, "1100 idle connections")
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS, "and its GPUs still get descriptors"
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    assert cpu_share(daemon) < 0.1, "and it does not spin"
    for connection in idle:
        connection.close()
