# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Holdfast's RPC program (src/rpc/holdfast.x): leases, which end with their connection, Watch, Stats, and permissions."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess

import pytest

from harness import events, holdfast_rpc, process, rpc
from harness.crowd import crowd
from harness.events import wait_until
from harness.holdfast_rpc import HELD, RELEASED
from harness.world import QUICK

pytestmark = pytest.mark.holdfast_only("NVIDIA's daemon has no such RPC program")

ENABLED, DISABLED = (rpc.SUCCESS, rpc.ENABLED), (rpc.SUCCESS, rpc.DISABLED)

kernel_only = pytest.mark.parametrize("backend", ["kernel"])
one_backend = pytest.mark.one_backend("it is about clients; other tests release GPUs with both backends")


@pytest.fixture
def daemon(world):
    """The daemon on three GPUs, ready."""
    world.simulate(gpus=3)
    return world.start("--verbose")


def connect(daemon, timeout=30):
    return holdfast_rpc.Connection(daemon.socket_path, timeout)


@pytest.fixture
def client(daemon):
    with connect(daemon) as client:
        yield client


@pytest.fixture
def holdfast_peer(build):
    program = build / "tests/peer/holdfast-peer"
    if not program.exists():
        pytest.skip(f"{program} is missing: it needs rpcgen and libtirpc at build time")
    return program


def usage(world):
    return [gpu["usage_count"] for gpu in world.sim.status()["gpus"]]


def states(daemon):
    with connect(daemon) as observer:
        return [gpu["state"] for gpu in observer.list()["gpus"]]


def wait_states(daemon, *wanted, timeout=20):
    """Watches until the GPUs are in these states."""
    with connect(daemon, timeout) as observer:
        now = observer.list()
        while [gpu["state"] for gpu in now["gpus"]] != list(wanted):
            now = observer.watch(now["serial"])


# ---- leases


def test_a_lease_of_all_is_answered_when_every_gpu_is_torn_down(world, daemon, client):
    assert client.release() == rpc.SUCCESS
    assert [(gpu["usage_count"], gpu["teardowns"]) for gpu in world.sim.status()["gpus"]] == [(0, 1)] * 3
    listed = client.list()["gpus"]
    assert [(gpu["state"], gpu["wanted"], gpu["leased"]) for gpu in listed] == [(RELEASED, 0, 1)] * 3
    assert [daemon.get(address) for address in world.gpus] == [DISABLED] * 3
    assert client.stats()["leases"] == 1


def test_a_lease_of_one_gpu_does_not_affect_the_others(world, daemon, client):
    assert client.release(world.gpus[1]) == rpc.SUCCESS
    assert usage(world) == [1, 0, 1]
    assert [gpu["leased"] for gpu in client.list()["gpus"]] == [0, 1, 0]


def test_a_lease_ends_when_its_client_hangs_up(world, daemon, client):
    assert client.release() == rpc.SUCCESS
    client.close()
    wait_states(daemon, HELD, HELD, HELD)
    assert usage(world) == [1] * 3
    with connect(daemon) as other:
        assert other.stats()["leases"] == 0


def as_container():
    return {"prefix": ["unshare", "--pid", "--fork", "--kill-child"]}


@one_backend
@pytest.mark.parametrize("who", [{"users": 600}, as_container(), {"user": process.NOBODY, "group": process.NOBODY},
                                 {}], ids=["600 users", "a container's root", "a user", "root"])
def test_a_lease_outlasts_six_hundred_watches_of_any_caller(world, daemon, client, who):
    assert client.release(world.gpus[0]) == rpc.SUCCESS
    wait_states(daemon, RELEASED, HELD, HELD)
    with crowd(daemon, 600, data=watch_record(client.list()["serial"]), **who):
        for _ in range(100):
            assert client.list()["gpus"][0]["leased"]
            assert daemon.get(world.gpus[1]) == ENABLED
        assert client.stats()["evicted"] > 0, "the crowd is too small: the daemon evicted no session"
    assert client.list()["gpus"][0]["leased"]


def watch_record(serial):
    """A Watch from the current serial, which waits for the next change."""
    return rpc.record(rpc.call_message(holdfast_rpc.VERSION, holdfast_rpc.WATCH, rpc.words(0, serial),
                                       program=holdfast_rpc.PROGRAM))


@one_backend
def test_a_set_in_progress_outlasts_six_hundred_connections_of_its_own_user(world):
    world.simulate(gpus=2, gpu0="teardown = 3s")
    daemon = world.start("--verbose")
    with connect(daemon) as setter:
        args = rpc.device(world.gpus[0]) + rpc.words(rpc.DISABLED)
        setter.send_until_taken(rpc.record(rpc.call_message(2, rpc.V2_SET_ONLY, args)))
        with crowd(daemon, 600):
            assert setter.receive().results == [rpc.SUCCESS]


class Peer:
    """A holdfast-peer process that has a lease. The test can kill it."""

    def __init__(self, program, daemon, *gpus):
        self._process = subprocess.Popen([program, daemon.socket_path, "release", *gpus], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE)
        self.output = events.Lines("holdfast-peer", self._process.stdout)

    def wait_status(self):
        return int(self.output.wait_for(r"^status=(\d+)$", timeout=30)[1])

    def end(self, number=None):
        """Ends the process with this signal, or by closing its standard input. Returns the exit status."""
        if number:
            self._process.send_signal(number)
        self._process.stdin.close()
        return self._process.wait(timeout=10)


@pytest.mark.parametrize("number", [None, signal.SIGKILL, signal.SIGTERM])
def test_a_lease_ends_with_its_process_however_the_process_ends(world, daemon, holdfast_peer, number):
    peer = Peer(holdfast_peer, daemon, "all")
    assert peer.wait_status() == rpc.SUCCESS
    assert usage(world) == [0] * 3
    assert peer.end(number) == (-number if number else 0)
    wait_states(daemon, HELD, HELD, HELD)


def test_a_client_that_hangs_up_before_the_answer_leaves_no_lease(world):
    world.simulate(gpus=2, gpu1="hang = open")  # a hanging close would have the lock that GPU 0 needs
    daemon = world.start("--verbose", "--stuck-timeout", "1")
    with connect(daemon) as client:
        client.begin_release()
        wait_states(daemon, RELEASED, holdfast_rpc.OPENING)
    wait_states(daemon, HELD, holdfast_rpc.OPENING)
    world.sim.ctl("hang", gpu=world.gpus[1], on=False)
    wait_states(daemon, HELD, HELD)


def test_a_set_off_during_a_lease_succeeds_and_outlasts_it(world, daemon, client):
    assert client.release() == rpc.SUCCESS
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    client.close()
    wait_states(daemon, RELEASED, HELD, HELD)


def test_after_a_reset_by_nvml_during_a_lease_the_gpu_is_held_again(world, daemon, client):
    """NVML's reset reads that the mode is off, sets it to off, and does not restore it at its end."""
    assert client.release() == rpc.SUCCESS
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.DISABLED)
    assert daemon.set_only(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    client.close()
    wait_states(daemon, HELD, HELD, HELD)


def test_a_set_on_during_a_lease_is_refused_and_remembered(world):
    world.simulate(gpus=2)
    daemon = world.start("--verbose", "--no-persistence-mode")
    with connect(daemon) as client:
        assert client.release() == rpc.SUCCESS
        assert daemon.set_only(world.gpus[0], rpc.ENABLED) == rpc.DRIVER
        assert usage(world) == [0, 0]
    wait_states(daemon, HELD, RELEASED)


def test_a_gpu_is_held_again_when_the_last_of_its_leases_ends(world, daemon, client):
    with connect(daemon) as second:
        assert client.release(world.gpus[0], world.gpus[1]) == rpc.SUCCESS
        assert second.release(world.gpus[1], world.gpus[2]) == rpc.SUCCESS
        assert second.stats()["leases"] == 2
        client.close()
        wait_states(daemon, HELD, RELEASED, RELEASED)
    wait_states(daemon, HELD, HELD, HELD)
    assert [gpu["initialisations"] for gpu in world.sim.status()["gpus"]] == [2] * 3


@contextlib.contextmanager
def stopped(pid):
    """Stops the process during the block, so that it finds everything that arrives meanwhile at once."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: process.status_fields(pid)["State"].startswith("T"), "the process has stopped")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_set_that_was_sent_after_a_lease_ended_succeeds(world, daemon, client):
    """Also if another connection was already waiting when the lease's connection was closed: the daemon then accepts both
    waiting connections before it reads the end of the lease."""
    assert client.release(world.gpus[0]) == rpc.SUCCESS
    with contextlib.ExitStack() as connections:
        with stopped(daemon.pid):
            connections.enter_context(connect(daemon))
            client.close()
            setter = connections.enter_context(connect(daemon))
            setter.send(rpc.record(rpc.call_message(2, rpc.V2_SET_ONLY, rpc.device(world.gpus[0]) +
                                                    rpc.words(rpc.ENABLED))))
        assert setter.receive().results == [rpc.SUCCESS]


def test_with_more_than_32_sessions_the_end_of_a_lease_also_comes_before_the_next_connection(world, daemon, client):
    """A rejected version of the daemon identified its clients only from the 33rd session on, and then served root's next
    connection before the end of the lease (decision 18). That must not happen."""
    set_on = rpc.call_message(2, rpc.V2_SET_ONLY, rpc.device(world.gpus[0]) + rpc.words(rpc.ENABLED))
    with contextlib.ExitStack() as connections:
        client.null(1)
        for _ in range(31):
            connections.enter_context(connect(daemon)).null(1)
        with stopped(daemon.pid):
            connections.enter_context(connect(daemon))
            client.send(rpc.record(rpc.call_message(holdfast_rpc.VERSION, holdfast_rpc.RELEASE,
                                                    holdfast_rpc.release_args(world.gpus[0]),
                                                    program=holdfast_rpc.PROGRAM)))
        assert client.finish_release() == rpc.SUCCESS
        with stopped(daemon.pid):
            connections.enter_context(connect(daemon))
            client.close()
            setter = connections.enter_context(connect(daemon))
            setter.send(rpc.record(set_on))
        assert setter.receive().results == [rpc.SUCCESS]


def test_a_lease_of_an_unknown_gpu_is_refused_and_releases_nothing(world, daemon, client):
    assert client.release(world.gpus[0], "00ff:17:00.0") == rpc.DEVICE_NOT_FOUND
    assert usage(world) == [1] * 3 and client.stats()["leases"] == 0
    assert client.release(world.gpus[0]) == rpc.SUCCESS, "after the error, the connection cannot get a lease"


def test_a_second_lease_on_one_connection_is_refused_and_the_first_lasts(world, daemon, client):
    assert client.release(world.gpus[0]) == rpc.SUCCESS
    assert client.release(world.gpus[1]) == rpc.INVALID_ARGUMENT
    assert usage(world) == [0, 1, 1] and client.stats()["leases"] == 1


def test_a_lease_may_name_a_gpu_twice(world, daemon, client):
    assert client.release(world.gpus[0], world.gpus[0]) == rpc.SUCCESS
    assert usage(world) == [0, 1, 1]


@one_backend
def test_only_an_administrator_gets_a_lease(world, daemon):
    call = f"call({holdfast_rpc.VERSION}, {holdfast_rpc.RELEASE}, words(1, 0), program={holdfast_rpc.PROGRAM})"
    assert daemon.eval_as_nobody(f"{call}.results") == f"[{rpc.PERMISSIONS}]"
    assert usage(world) == [1] * 3
    daemon.wait_for_log(rf"refused Release from uid {process.NOBODY}")


@one_backend
def test_everybody_may_call_procedures_that_change_nothing(world, daemon):
    for procedure, args in ((holdfast_rpc.LIST, ""), (holdfast_rpc.WATCH, "words(0, 0)"), (holdfast_rpc.STATS, ""),
                            (holdfast_rpc.CONFIGURED, "")):
        call = f"call({holdfast_rpc.VERSION}, {procedure}, {args or b''}, program={holdfast_rpc.PROGRAM})"
        assert daemon.eval_as_nobody(f"{call}.is_success") == "True"


def test_a_lease_on_a_gpu_that_hangs_is_answered_with_an_error_and_lasts(world):
    world.simulate(gpus=2, gpu1="hang = open")
    daemon = world.start("--verbose", "--stuck-timeout", "1")
    with connect(daemon) as client:
        assert client.release() == rpc.DRIVER
        assert [gpu["stuck"] for gpu in client.list()["gpus"]] == [0, 1]
        world.sim.ctl("hang", gpu=world.gpus[1], on=False)
        wait_states(daemon, RELEASED, RELEASED)
        assert client.stats()["leases"] == 1 and usage(world) == [0, 0]
    wait_states(daemon, HELD, HELD)


def test_a_lease_during_the_start_is_answered_when_the_gpus_are_released(world):
    world.simulate(gpus=2, defaults=QUICK + "hang = open\n")
    daemon = world.begin("--verbose")
    daemon.wait_socket()
    with connect(daemon) as client:
        wait_states(daemon, holdfast_rpc.OPENING, holdfast_rpc.OPENING)
        client.begin_release()
        world.sim.ctl("hang", gpu="all", on=False)
        assert client.finish_release() == rpc.SUCCESS
        assert usage(world) == [0, 0]
        daemon.wait_ready()
    wait_states(daemon, HELD, HELD)


@kernel_only
def test_a_lease_of_all_covers_gpus_that_appear_meanwhile(world):
    world.simulate(gpus=2, gpu1="present = no")
    daemon = world.start("--verbose")
    with connect(daemon) as client:
        assert client.release() == rpc.SUCCESS
        late = world.sim.status()["gpus"][1]["address"]
        world.sim.ctl("add", gpu=late)
        now = wait_until(lambda: (lambda gpus: len(gpus) == 2 and gpus)(client.list()["gpus"]), "the new GPU is listed",
                         timeout=20)
        assert [(gpu["state"], gpu["leased"]) for gpu in now] == [(RELEASED, 1)] * 2
        assert world.sim.gpu(late)["initialisations"] == 0
    wait_states(daemon, HELD, HELD)


def test_a_lease_of_all_succeeds_without_any_gpu(world):
    world.simulate(gpus=1, defaults=QUICK + "present = no\n")
    daemon = world.start()
    with connect(daemon) as client:
        assert client.release() == rpc.SUCCESS


def test_a_stop_during_a_lease_is_in_time(world, daemon, client):
    assert client.release() == rpc.SUCCESS
    assert daemon.stop() == 0
    assert usage(world) == [0] * 3


@one_backend
@pytest.mark.parametrize("args", [b"", rpc.words(0), rpc.words(2, 0), rpc.words(0, 257), rpc.words(0, 1, 0, 0, 0),
                                  rpc.words(0, 0xFFFFFFFF)])
def test_arguments_that_do_not_decode_are_garbage_and_release_nothing(world, daemon, client, args):
    reply = client.call(holdfast_rpc.VERSION, holdfast_rpc.RELEASE, args, program=holdfast_rpc.PROGRAM)
    assert reply.accept_status == rpc.GARBAGE_ARGS
    assert client.stats()["leases"] == 0 and usage(world) == [1] * 3
    assert client.release(world.gpus[0]) == rpc.SUCCESS, "the session does not continue"


@kernel_only
def test_during_a_lease_of_all_the_daemon_has_no_file_of_the_driver_open(world, daemon, client):
    """`rmmod nvidia` requires that no process has any of the driver's nodes open, including the control node."""
    nodes = str(world.sim.mount / "dev")
    assert any(target.startswith(nodes) for target in process.open_files(daemon.pid).values())
    assert client.release() == rpc.SUCCESS
    assert [target for target in process.open_files(daemon.pid).values() if target.startswith(nodes)] == []


@kernel_only
def test_after_a_kill_of_the_daemon_during_a_lease_the_gpus_stay_released(world):
    world.simulate(gpus=2)
    service = world.supervise("--verbose")
    daemon = service.start().wait_ready()
    with connect(daemon) as client:
        assert client.release() == rpc.SUCCESS
        assert service.kept == []
        service.end(signal.SIGKILL)
        assert usage(world) == [0, 0]


@one_backend
def test_a_crowd_of_connections_ends_no_lease(world):
    world.simulate(gpus=2)
    config = world.base / "few.conf"
    config.write_text("[daemon]\nmax-sessions = 6\n")
    daemon = world.start("--verbose", "--config", str(config))
    with connect(daemon) as client, contextlib.ExitStack() as crowd:
        assert client.release() == rpc.SUCCESS
        for _ in range(20):
            assert crowd.enter_context(connect(daemon)).get(world.gpus[0]) == DISABLED
        assert client.stats()["leases"] == 1
        assert usage(world) == [0, 0]


# ---- Watch


@one_backend
def test_watch_with_an_old_serial_is_answered_at_once(client):
    serial = client.list()["serial"]
    for old in (serial - 1, 0):
        # The serial may be larger: after the start the daemon reads the legacy flags one by one.
        assert client.watch(old)["serial"] >= serial


@one_backend
def test_a_watch_with_the_serial_of_an_earlier_daemon_is_answered_at_once(world):
    """`holdfast wait` may ask for the list before a restart of the daemon, and watch after it."""
    world.simulate(gpus=1)
    daemon = world.start()
    for mode in (rpc.DISABLED, rpc.ENABLED):
        assert daemon.set_only(world.gpus[0], mode) == rpc.SUCCESS
    with connect(daemon) as before:
        serial = before.list()["serial"]
    daemon.stop()
    with connect(world.start()) as after:
        assert after.list()["serial"] > serial
        assert after.watch(serial)["serial"] > serial


def test_watch_is_answered_when_something_changes(world, daemon, client):
    before = client.list()
    client.begin_watch(before["serial"])
    assert daemon.set_only(world.gpus[1], rpc.DISABLED) == rpc.SUCCESS
    now = client.finish_watch()
    assert now["serial"] > before["serial"]
    while now["gpus"][1]["state"] != RELEASED:  # the first change may be an intermediate state
        now = client.watch(now["serial"])
    assert [gpu["wanted"] for gpu in now["gpus"]] == [1, 0, 1]


def only_news(client, disturb):
    """Calls `disturb` repeatedly while a Watch waits, and checks that each answer has a changed list.

    Some answers are possible, since the first List makes the daemon read the legacy flags one by one.
    """
    now = client.list()
    client.begin_watch(now["serial"])
    for _ in range(20):
        disturb()
        if select.select([client.socket], [], [], 0)[0]:
            before, now = now, client.finish_watch()
            assert now["gpus"] != before["gpus"], "Watch was answered without a change"
            client.begin_watch(now["serial"])
    return now


@one_backend
def test_watch_is_not_answered_because_of_calls_that_only_read(world, daemon, client):
    with connect(daemon) as other:
        only_news(client, lambda: (other.list(), other.stats(), other.get(world.gpus[0])))


@one_backend
def test_watch_is_not_answered_because_of_a_reload_that_changes_nothing(daemon, client):
    def reload():
        seen = len(daemon.log.all)
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: any("Configuration read again" in line for line in daemon.log.all[seen:]), "the reload is over")
    only_news(client, reload)


@kernel_only
def test_watch_is_not_answered_because_of_scans_that_find_the_same_gpus(world):
    """The last scan finds a new GPU, so that the Watch is answered."""
    event = b"bind@/devices/pci0000:00/0000:17:00.0\0ACTION=bind\0SUBSYSTEM=pci\0DRIVER=nvidia\0"
    world.simulate(gpus=4, gpu3="present = no")
    daemon = world.start("--verbose")
    uevents = str(daemon.site.runtime_directory / "uevents")
    with connect(daemon) as client, connect(daemon) as other, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        before = only_news(client, lambda: (sender.sendto(event, uevents), other.stats()))
        world.sim.ctl("add", gpu=world.gpus[3])
        assert client.finish_watch()["gpus"] != before["gpus"], "Watch was answered without a change"


@one_backend
def test_all_watches_are_answered(world, daemon):
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(connect(daemon)) for _ in range(50)]
        serial = watchers[0].list()["serial"]
        for watcher in watchers:
            watcher.begin_watch(serial)
        assert daemon.set_only(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
        assert all(watcher.finish_watch()["serial"] > serial for watcher in watchers)


@one_backend
def test_watchers_that_hang_up_are_forgotten_at_once(world, daemon, client):
    watchers = [connect(daemon) for _ in range(50)]
    serial = client.list()["serial"]
    for watcher in watchers:
        watcher.begin_watch(serial)
    assert client.stats()["sessions"] == 51
    for watcher in watchers:
        watcher.close()
    wait_until(lambda: client.stats()["sessions"] == 1, "their sessions have ended")
    assert daemon.set_only(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS


@one_backend
def test_a_watch_whose_client_shuts_down_its_side_is_answered_and_its_session_ends(world, daemon, client):
    with connect(daemon, timeout=5) as watcher:
        serial = watcher.list()["serial"]
        watcher.begin_watch(serial)
        watcher.socket.shutdown(socket.SHUT_WR)
        assert watcher.finish_watch()["serial"] == serial
        assert watcher.socket.recv(1) == b""
    wait_until(lambda: client.stats()["sessions"] == 1, "its session has ended")


def test_a_lease_whose_owner_also_watches_ends_with_the_connection(world, daemon, client):
    assert client.release() == rpc.SUCCESS
    client.begin_watch(client.list()["serial"])
    client.close()
    wait_states(daemon, HELD, HELD, HELD)


@one_backend
def test_watch_without_a_serial_is_garbage(client):
    reply = client.call(holdfast_rpc.VERSION, holdfast_rpc.WATCH, rpc.words(1), program=holdfast_rpc.PROGRAM)
    assert reply.accept_status == rpc.GARBAGE_ARGS


# ---- Stats


@one_backend
def test_stats_count_connections_and_calls(world, daemon, client):
    before = client.stats()
    for _ in range(10):
        daemon.get(world.gpus[0])
    after = wait_until(lambda: (lambda stats: stats["sessions"] == 1 and stats)(client.stats()), "ten sessions have ended")
    assert after["accepted"] - before["accepted"] == 10
    assert after["calls"] - before["calls"] >= 10
    assert after["started_realtime"] == before["started_realtime"] == client.list()["started_realtime"]
    assert after["sessions_max"] >= after["sessions"]


@one_backend
def test_stats_count_rejected_calls(daemon, client):
    before = client.stats()["rejected"]
    client.call(1, 99)
    client.call(99, 1)
    client.call(1, 0, program=4711)
    client.call(1, rpc.V1_GET, rpc.words(1))
    assert client.call(1, 0, rpc_version=3).reply_status == rpc.DENIED
    assert client.stats()["rejected"] - before == 5


@one_backend
def test_stats_count_calls_refused_for_lack_of_permission(world, daemon, client):
    daemon.call_as_nobody("set_only", world.gpus[0], rpc.DISABLED)
    assert client.stats()["refused"] == 1


@one_backend
def test_stats_count_malformed_records(daemon, client):
    with connect(daemon) as huge:
        huge.send(rpc.words(rpc.LAST_FRAGMENT | 0x7FFFFFFF))
        with contextlib.suppress(ConnectionResetError):
            assert huge.socket.recv(1) == b""
    assert client.stats()["malformed"] == 1


@one_backend
def test_stats_count_evicted_sessions(world):
    world.simulate(gpus=2)
    config = world.base / "few.conf"
    config.write_text("[daemon]\nmax-sessions = 4\n")
    daemon = world.start("--config", str(config))
    with contextlib.ExitStack() as crowd:
        for _ in range(9):
            crowd.enter_context(connect(daemon)).null(1)
        with connect(daemon) as client:
            stats = client.stats()
            assert (stats["sessions_max"], stats["sessions"], stats["evicted"]) == (4, 4, 6)


@one_backend
def test_stats_count_sessions_that_expire_with_half_a_record(daemon, client):
    with connect(daemon) as half:
        half.send(rpc.words(rpc.LAST_FRAGMENT | 40))
        with contextlib.suppress(ConnectionResetError):
            assert half.socket.recv(1) == b"", "the daemon did not end the session"
    assert client.stats()["expired"] == 1


# ---- the independent client


def run_peer(program, daemon, *words):
    done = subprocess.run([program, daemon.socket_path, *words], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_the_independent_client_reads_list_watch_and_stats(world, daemon, client, holdfast_peer):
    listed = run_peer(holdfast_peer, daemon, "list")
    assert re.search(rf'^daemon version="[^"]+" backend="{world.backend}" pid={daemon.pid} .* gpus=3$', listed, re.M)
    assert len(re.findall(rf"^gpu address=.* state={HELD} wanted=1 ", listed, re.M)) == 3
    for address in world.gpus:  # the legacy flag is the last value of a held GPU to change
        daemon.wait_for_log(rf"device {address} - read the legacy persistence flag")
    listed = run_peer(holdfast_peer, daemon, "list")
    assert run_peer(holdfast_peer, daemon, "watch", "0").splitlines()[0] == listed.splitlines()[0]
    stats = dict(word.split("=") for word in run_peer(holdfast_peer, daemon, "stats").split()[1:])
    now = client.stats()
    assert list(stats) == list(now)
    assert int(stats["started_realtime"]) == now["started_realtime"] and int(stats["leases"]) == 0


def test_the_independent_client_reads_the_configuration(world, holdfast_peer):
    world.simulate(gpus=2)
    daemon = world.start("--no-persistence-mode", "--uvm-persistence-mode")
    with connect(daemon) as client:
        assert client.configured() == dict.fromkeys(world.gpus, (0, 1))
    assert run_peer(holdfast_peer, daemon, "configured").splitlines() == [
        "configured address=" + re.sub(r"\b0+(?=\w)", "", address) + " persistence=0 uvm_persistence=1"
        for address in world.gpus]


def test_the_independent_client_gets_a_lease_of_some_gpus(world, daemon, holdfast_peer):
    peer = Peer(holdfast_peer, daemon, world.gpus[0], world.gpus[2])
    assert peer.wait_status() == rpc.SUCCESS
    assert usage(world) == [0, 1, 0]
    assert peer.end() == 0
    wait_states(daemon, HELD, HELD, HELD)
