# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Clients that are slow, hang up, flood the daemon or send garbage. None of them delays or ends another client's session."""

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

# NVIDIA's daemon serves one client at a time; docs/reliability.md has what happens to it.
pytestmark = [
    pytest.mark.holdfast_only("NVIDIA's daemon stalls or dies"),
    pytest.mark.one_backend("the GPUs are already held, and the clients do not change that"),
]

PROMPT_SEC = 2  # enough on a busy machine; a client that stalls the daemon does so for ten seconds or more


@pytest.fixture
def many_descriptors():
    """Raises the test's own limit, so that it can have more connections than the daemon may have descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(4096, before[0]), max(4096, before[1])))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def get_record(address, **parts):
    return rpc.record(rpc.call_message(1, rpc.V1_GET, rpc.device(address), **parts))


def assert_prompt(daemon, world, what):
    """Checks that another client is served at once."""
    start = time.monotonic()
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    took = time.monotonic() - start
    assert took < PROMPT_SEC, f"{what}: another client waited {took:.3f} s"


@pytest.mark.parametrize("length", [1, 4, 5, 30, 59])
def test_half_a_record_followed_by_silence_delays_no_other_client(daemon, world, length):
    with daemon.connect() as silent:
        record = get_record(world.gpus[0])
        silent.send_until_taken(record[:length])
        assert_prompt(daemon, world, f"{length} bytes and silence")
        silent.send(record[length:])
        assert silent.receive().results == [rpc.SUCCESS, rpc.ENABLED], "the silent client cannot continue"


def test_many_half_records_delay_no_other_client(daemon, world):
    halves = [daemon.connect() for _ in range(100)]
    for half in halves:
        half.send_until_taken(get_record(world.gpus[0])[:20])
    assert_prompt(daemon, world, "100 half records")
    for half in halves:
        half.close()


def fill(connection, data, limit):
    """Sends until the daemon has read nothing for 0.3 s, or until the limit. Returns the number of bytes sent."""
    sent = 0
    connection.socket.setblocking(False)
    while sent < limit and select.select([], [connection.socket], [], 0.3)[1]:
        sent += connection.socket.send(data)
    return sent


def test_a_client_that_sends_and_never_reads_is_throttled_and_delays_no_other_client(daemon, world):
    with daemon.connect() as slow:
        data = get_record(world.gpus[0])
        before = memory_kib(daemon)
        sent = fill(slow, data * 100, limit=8 << 20)
        assert sent < 8 << 20, "the daemon does not stop reading"
        assert_prompt(daemon, world, "a slow reader")
        assert memory_kib(daemon) - before < 4096, "the daemon keeps answers that the client does not read"


def memory_kib(daemon):
    return int(process.status_fields(daemon.pid)["VmRSS"].split()[0])


def test_a_slow_reader_gets_all_its_answers(daemon, world):
    count = 3000
    records = b"".join(get_record(world.gpus[0], xid=number) for number in range(count))
    with daemon.connect(timeout=20) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.socket.setblocking(False)
        view, answers = memoryview(records), 0
        while view:
            try:
                view = view[slow.socket.send(view):]
            except BlockingIOError:  # both directions are full, so read one answer
                slow.socket.settimeout(20)
                assert slow.receive().xid == answers
                answers += 1
                slow.socket.setblocking(False)
        slow.socket.settimeout(20)
        assert [slow.receive().xid for _ in range(answers, count)] == list(range(answers, count))


def sockets(daemon):
    return sum(target.startswith("socket:") for target in process.open_files(daemon.pid).values())


def test_ten_thousand_hang_ups_before_the_reply_do_not_harm_the_daemon(daemon, world):
    record = get_record(world.gpus[0])
    before = sockets(daemon)
    for _ in range(10_000):
        with daemon.connect() as connection:
            connection.send(record)
    assert daemon.is_running
    assert_prompt(daemon, world, "10,000 hang-ups")
    wait_until(lambda: sockets(daemon) <= before, "the daemon has closed the descriptors of the sessions that hung up")


def test_hang_ups_in_the_middle_of_a_record_do_not_harm_the_daemon(daemon, world):
    record = get_record(world.gpus[0])
    for length in range(len(record)):
        with daemon.connect() as connection:
            connection.send(record[:length])
    assert_prompt(daemon, world, "hang-ups at every byte")


@pytest.mark.both_backends
def test_a_set_is_executed_even_if_its_client_hangs_up(world):
    world.simulate(gpus=2, defaults="lock = 0ms\ninit = 10ms\nteardown = 200ms\n")
    daemon = world.start("--verbose")
    with daemon.connect() as connection:
        args = rpc.device(world.gpus[0]) + rpc.words(rpc.DISABLED)
        connection.send_until_taken(rpc.record(rpc.call_message(2, rpc.V2_SET_ONLY, args)))
    daemon.wait_for_log(rf"device {world.gpus[0]} - persistence mode disabled\.")
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.DISABLED)


def test_random_bytes_do_not_harm_the_daemon(daemon, world):
    source = random.Random(35006)  # the same bytes in every run
    for _ in range(3000):
        with daemon.connect() as connection:
            send_what_is_taken(connection, source.randbytes(source.randrange(1, 400)))
    assert_prompt(daemon, world, "random bytes")


def send_what_is_taken(connection, data):
    """Sends; the daemon may end the session meanwhile."""
    try:
        connection.send(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def test_garbled_calls_do_not_harm_the_daemon_and_change_nothing(daemon, world):
    """Changes each byte of an invalid Set to several values, one byte at a time. No result may change the GPU."""
    message = rpc.call_message(2, rpc.V2_SET_NUMA, rpc.device(world.gpus[0]) + rpc.words(5))
    for at in range(len(message)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
            with daemon.connect() as connection:
                garbled = message[:at] + bytes([value]) + message[at + 1:]
                send_what_is_taken(connection, rpc.record(garbled))
    assert_prompt(daemon, world, "garbled calls")


@pytest.mark.parametrize("length", [8192, 0x00FFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("last", [0, rpc.LAST_FRAGMENT], ids=["a first fragment", "a whole record"])
def test_a_huge_record_ends_only_its_own_session(daemon, world, length, last):
    with daemon.connect() as honest, daemon.connect() as huge:
        before = memory_kib(daemon)
        send_what_is_taken(huge, rpc.words(last | length) + bytes(64))
        assert_ended(huge)
        assert honest.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
        assert memory_kib(daemon) - before < 1024, "the daemon allocates memory for the announced length"


def assert_ended(connection):
    try:
        assert connection.socket.recv(1) == b"", "the daemon answered instead of ending the session"
    except ConnectionResetError:
        pass


def test_endless_fragments_end_their_session(daemon, world):
    with daemon.connect() as endless:
        send_what_is_taken(endless, rpc.words(0) * 10_000)
        assert_ended(endless)
    assert_prompt(daemon, world, "empty fragments")


def test_a_reply_sent_to_the_daemon_ends_the_session_without_an_answer(daemon, world):
    with daemon.connect() as connection:
        connection.send(rpc.record(rpc.words(7, rpc.REPLY, 0, 0, 0, 0)))
        connection.send(get_record(world.gpus[0], xid=8))
        try:
            assert connection.receive().xid == 8, "the daemon answered a reply"
        except (EOFError, ConnectionResetError):
            pass
    assert_prompt(daemon, world, "a reply")


def cpu_share(daemon, interval=0.5):
    """The daemon's share of one CPU during an interval without calls. There is no event to wait for."""
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
        assert cpu_share(daemon) < 0.1, "the daemon spins"
        crowd.stdin.close()
        assert crowd.wait(timeout=10) == 0


@pytest.mark.both_backends
def test_1100_idle_connections_do_not_keep_a_client_out(world, many_descriptors):
    world.simulate()
    daemon = world.begin(prefix=["prlimit", "--nofile=1024:1024"])
    daemon.wait_ready()
    idle = [daemon.connect() for _ in range(1100)]
    assert_prompt(daemon, world, "1100 idle connections")
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS, "the daemon has no descriptor left for a GPU"
    assert cpu_share(daemon) < 0.1, "the daemon spins"
    for connection in idle:
        connection.close()
