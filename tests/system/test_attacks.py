# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Attacks on a persistence daemon by anybody who can connect to its socket or write where it writes.

Each attack runs against both daemons for a bounded time. If a test fails, its message says what happened to the daemon.
scripts/reliability-table makes the table in docs/reliability.md from the results. More detailed tests of our daemon are in
test_sessions.py, test_privileges.py and others.
"""

import contextlib
import ctypes
import fcntl
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from harness import fuse, holdfast_rpc, process, rpc
from harness.command import PROGRAM, environment
from harness.crowd import crowd
from harness.daemon import Daemon, other_daemon, return_of_command
from harness.node import THREE, Node, Row

pytestmark = pytest.mark.one_backend("the attacks are on the socket, the files and the log, not on the driver")

START_SEC = 10
HONEST_SEC = 2  # the longest time that an honest client may wait, even on a busy machine

ENABLED, DISABLED = (rpc.SUCCESS, rpc.ENABLED), (rpc.SUCCESS, rpc.DISABLED)


@pytest.fixture
def daemon(world):
    """The daemon on two GPUs. NVIDIA's daemon may hang at the end: the test has then failed already, so this only kills it."""
    daemon = world.start()
    yield daemon
    if other_daemon() and not daemon.status:
        process.kill_and_reap(daemon.pid)
        daemon.status = 0


def get_record(world, **parts):
    return rpc.record(rpc.call_message(1, rpc.V1_GET, rpc.device(world.gpus[0]), **parts))


def set_off_record(world, **parts):
    args = rpc.device(world.gpus[0]) + rpc.words(rpc.DISABLED)
    return rpc.record(rpc.call_message(2, rpc.V2_SET_ONLY, args, **parts))


def ask(daemon, world):
    """Asks as an honest client. Returns the answer, or a sentence that says what went wrong."""
    try:
        with daemon.connect(timeout=HONEST_SEC) as connection:
            return connection.get(world.gpus[0])
    except TimeoutError:
        return f"other clients wait for more than {HONEST_SEC} s"
    except (OSError, EOFError) as error:
        return f"other clients are not served ({error})"


def assert_serves(daemon, world, answer=ENABLED):
    gone = process.wait_gone(daemon.pid, 0)
    told = None if gone else ask(daemon, world)
    if told == answer:
        return
    if gone or process.wait_gone(daemon.pid, 0.2):  # it may be about to die from what it has just read
        daemon.status = process.reap(daemon.pid, 5)
        raise AssertionError(f"the daemon dies ({death(daemon.status)})")
    raise AssertionError(told if isinstance(told, str) else f"other clients get the answer {told}")


def death(status):
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def send_what_is_taken(connection, data, limit_sec=1):
    """Sends as much as the daemon reads within the time. The daemon may end the session meanwhile."""
    connection.socket.settimeout(limit_sec)
    try:
        connection.send(data)
    except OSError:
        pass


def send_and_hear_out(connection, data, limit_sec=1):
    """Sends, shuts down the sending side, and reads the answers. So this is not a hang-up, whatever is sent."""
    send_what_is_taken(connection, data, limit_sec)
    try:
        connection.socket.shutdown(socket.SHUT_WR)
        while connection.socket.recv(4096):
            pass
    except OSError:
        pass


# ---- on the socket


def test_half_a_record_and_silence(daemon, world):
    with daemon.connect() as silent:
        silent.send(get_record(world)[:20])
        assert_serves(daemon, world)


def test_a_hundred_half_records(daemon, world):
    with contextlib.ExitStack() as crowd:
        for _ in range(100):
            crowd.enter_context(daemon.connect()).send(get_record(world)[:20])
        assert_serves(daemon, world)


def test_a_client_that_connects_and_sends_nothing(daemon, world):
    with daemon.connect():
        assert_serves(daemon, world)


def test_a_client_that_sends_and_never_reads(daemon, world):
    with daemon.connect() as slow:
        send_what_is_taken(slow, get_record(world) * 100_000)
        assert_serves(daemon, world)


def test_a_thousand_clients_that_hang_up_before_the_reply(daemon, world):
    for _ in range(1000):
        try:
            with daemon.connect(timeout=HONEST_SEC) as connection:
                connection.send(get_record(world))
        except OSError:
            break
    assert_serves(daemon, world)


def test_clients_that_hang_up_in_the_middle_of_a_record(daemon, world):
    record = get_record(world)
    for length in range(1, len(record)):
        with daemon.connect() as connection:
            send_what_is_taken(connection, record[:length])
    assert_serves(daemon, world)


@contextlib.contextmanager
def flood(daemon, world, n_clients=8):
    """Runs clients that call without a pause."""
    stop = threading.Event()
    record = get_record(world)

    def call():
        while not stop.is_set():
            try:
                with daemon.connect(timeout=HONEST_SEC) as connection:
                    connection.send(record)
                    connection.receive()
            except (OSError, EOFError):
                pass
    threads = [threading.Thread(target=call) for _ in range(n_clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_flood_of_calls(daemon, world):
    with flood(daemon, world):
        for _ in range(20):
            assert_serves(daemon, world)


def memory_kib(daemon):
    return int(process.status_fields(daemon.pid)["VmRSS"].split()[0])


@pytest.mark.parametrize("header", [0x7FFFFFFF, 0xFFFFFFFF], ids=["first fragment", "whole record"])
def test_a_record_header_that_announces_two_gigabytes(daemon, world, header):
    before = memory_kib(daemon)
    with daemon.connect() as huge:
        send_what_is_taken(huge, rpc.words(header) + bytes(1 << 20))
        assert_serves(daemon, world)
        assert memory_kib(daemon) - before < 4096, "the daemon's memory grows with the announced length"


def test_credentials_that_announce_four_gigabytes(daemon, world):
    message = rpc.call_message(1, rpc.V1_GET)[:24] + rpc.words(1, 0xFFFFFFFC) + bytes(400)
    with daemon.connect() as huge:
        send_what_is_taken(huge, rpc.record(message))
        assert_serves(daemon, world)


def test_empty_fragments_without_end(daemon, world):
    with daemon.connect() as endless:
        send_what_is_taken(endless, rpc.words(0) * 250_000)
        assert_serves(daemon, world)


def test_random_bytes(daemon, world):
    source = random.Random(35006)  # the same in every run
    for _ in range(300):
        try:
            with daemon.connect(timeout=HONEST_SEC) as connection:
                send_and_hear_out(connection, source.randbytes(source.randrange(1, 400)))
        except OSError:
            break
    assert_serves(daemon, world)


def test_garbled_calls(daemon, world):
    """Changes each byte of a valid call to several values, one byte at a time."""
    message = rpc.call_message(1, rpc.V1_GET, rpc.device(world.gpus[0]))
    for at in range(len(message)):
        for value in (0x00, 0x7F, 0xFF):
            try:
                with daemon.connect(timeout=HONEST_SEC) as connection:
                    send_and_hear_out(connection, rpc.record(message[:at] + bytes([value]) + message[at + 1:]))
            except OSError:
                pass
    assert_serves(daemon, world)


@pytest.fixture
def few_descriptors():
    """Limits the programs started during the test to 256 descriptors. Yields a function that raises the limit of the test itself
    again."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


CROWD = """
import socket, sys

crowd = []
for _ in range(300):
    try:
        crowd.append(socket.socket(socket.AF_UNIX))
        crowd[-1].settimeout(1)
        crowd[-1].connect(sys.argv[1])
    except OSError:
        break
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.mark.both_backends
def test_more_connections_of_another_user_than_the_daemon_has_descriptors(few_descriptors, world, daemon):
    few_descriptors()
    with subprocess.Popen([sys.executable, "-I", "-c", CROWD, daemon.socket_path], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, user=process.NOBODY, group=process.NOBODY, extra_groups=[],
                          cwd="/") as crowd:
        assert crowd.stdout.readline() == b"connected\n"
        assert_serves(daemon, world)
        with daemon.connect(timeout=HONEST_SEC) as root:
            assert root.set_only(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS, "root's Set fails"
        crowd.stdin.close()


def assert_always_serves(daemon, world, calls=200):
    for _ in range(calls):
        assert_serves(daemon, world)


def test_six_hundred_connections_of_six_hundred_users(daemon, world):
    """An ordinary user has 65,536 subordinate uids."""
    with crowd(daemon, 600, users=600):
        assert_always_serves(daemon, world)


def test_six_hundred_watches_by_root_of_a_container(daemon, world):
    with crowd(daemon, 600, data=watch_record(daemon), prefix=["unshare", "--pid", "--fork", "--kill-child"]):
        assert_always_serves(daemon, world)


def watch_record(daemon):
    """A Watch from the current serial, which waits for the next change."""
    serial = 0
    if not other_daemon():
        with holdfast_rpc.Connection(daemon.socket_path) as connection:
            serial = connection.list()["serial"]
    return rpc.record(rpc.call_message(holdfast_rpc.VERSION, holdfast_rpc.WATCH, rpc.words(0, serial),
                                       program=holdfast_rpc.PROGRAM))


def test_two_hundred_clients_that_never_read_their_lists(daemon, world):
    """The kernel charges unread replies to the daemon's memory."""
    message = rpc.call_message(holdfast_rpc.VERSION, holdfast_rpc.LIST, program=holdfast_rpc.PROGRAM)
    before = memory_kib(daemon)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(daemon.connect(timeout=HONEST_SEC)) for _ in range(200)]
        for reader in readers:
            send_what_is_taken(reader, rpc.record(message) * 2000, limit_sec=0.01)
        assert_serves(daemon, world)
        unread = sum(bytes_to_read(reader) for reader in readers)
        assert unread <= 200 * 8192, f"{unread >> 10} KiB of unread replies are charged to the daemon"
        assert memory_kib(daemon) - before < 16384, "the daemon's memory grows with unread replies"


def bytes_to_read(connection):
    return struct.unpack("i", fcntl.ioctl(connection.socket, termios.FIONREAD, bytes(4)))[0]


# ---- descriptors passed to the daemon


@contextlib.contextmanager
def slow_to_close():
    """A TCP socket whose last close waits for a minute, since its other end never reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    near.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(bytes(1 << 20))
    try:
        yield near
    finally:
        far.close()  # resets the connection, so that no close waits from now on
        near.close()


def is_passed(connection, data, slow, flags=0):
    """Passes the descriptor. Returns whether the daemon's socket accepted it, so that the daemon may be its last owner."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", slow.fileno()))]
    try:
        connection.socket.sendmsg([data], rights, flags)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def stopped(daemon):
    """Stops the daemon meanwhile, so that the caller can close what it passes before the daemon sees it."""
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def pass_alone(connection, record, slow):
    return is_passed(connection, b"x", slow)


def pass_in_a_call(connection, record, slow):
    connection.send(record[:20])
    return is_passed(connection, record[20:], slow)


def pass_behind_a_call(connection, record, slow):
    connection.send(record)
    return is_passed(connection, record, slow)


def pass_out_of_band(connection, record, slow):
    taken = is_passed(connection, b"x", slow, socket.MSG_OOB)
    with contextlib.suppress(OSError):
        connection.send(record)
    return taken


@pytest.fixture(params=["this kernel", "an older kernel"])
def kernel(request, world, build):
    """Older kernels can neither refuse descriptors nor report the pidfd of the process that connected."""
    if request.param == "an older kernel":
        world.site.environment |= process.SANITIZER_BEHIND_PRELOAD | {
            "LD_PRELOAD": str(build / "tests/faults/older-kernel.so")}


@pytest.mark.parametrize("hang_up", [False, True], ids=["stays", "hangs up"])
@pytest.mark.parametrize("way", [pass_alone, pass_in_a_call, pass_behind_a_call, pass_out_of_band])
def test_a_passed_descriptor_whose_close_takes_a_minute(kernel, world, daemon, way, hang_up):
    with contextlib.ExitStack() as stack:
        with stopped(daemon):
            slow = stack.enter_context(slow_to_close())
            connection = stack.enter_context(daemon.connect())
            if way(connection, get_record(world), slow):
                slow.close()
            if hang_up:
                connection.close()
        for _ in range(3):
            assert_serves(daemon, world)
        assert_stops(daemon)


# Runs in its own PID namespace, which any user can create. It connects and then hangs in execve().
CONNECT_AND_EXECUTE = """
import os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[2])
connection.send(bytes.fromhex(sys.argv[3]))
connection.set_inheritable(True)
""" + fuse.EXECUTE


@pytest.mark.parametrize("prefix", [
    ["unshare", "--pid"], ["setpriv", f"--reuid={process.NOBODY}", "--clear-groups", "unshare", "--user", "--pid"],
    ["setpriv", "--bounding-set=-sys_admin", "unshare"]], ids=["of root", "of a user", "that shares our pids"])
def test_a_client_in_a_container_that_hangs_in_execve(kernel, world, daemon, prefix):
    """The kernel blocks whoever asks for the namespace of such a process."""
    with fuse.hung_file_system("file") as system, contextlib.ExitStack() as stack:
        with stopped(daemon):
            stack.enter_context(fuse.process_on(
                system, CONNECT_AND_EXECUTE, [daemon.socket_path, get_record(world).hex()],
                prefix=[*prefix, "--fork", "--kill-child"]))
        for _ in range(3):
            assert_serves(daemon, world)


def assert_stops(daemon):
    daemon.terminate()
    if not process.wait_gone(daemon.pid, 5):
        raise AssertionError("the daemon does not stop within 5 s")
    daemon.status = process.reap(daemon.pid, 1)


def test_many_passed_descriptors_whose_close_takes_a_minute(kernel, world, daemon):
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            slow = stack.enter_context(slow_to_close())
            with contextlib.suppress(OSError):
                connection = stack.enter_context(daemon.connect(timeout=HONEST_SEC))
                with stopped(daemon):
                    if pass_behind_a_call(connection, get_record(world), slow):
                        slow.close()
        for _ in range(10):
            assert_serves(daemon, world)


# ---- unauthorized calls


def assert_not_obeyed(daemon, world):
    """Checks with the daemon and with the simulator that the GPU is still held."""
    obeyed = daemon.get(world.gpus[0]) != ENABLED or world.sim.gpu(world.gpus[0])["teardowns"] > 0
    assert not obeyed, "the daemon obeys and releases the GPU"


def test_a_set_by_another_user(daemon, world):
    daemon.call_as_nobody("set_only", world.gpus[0], rpc.DISABLED)
    assert_not_obeyed(daemon, world)


def test_a_set_by_another_user_who_claims_to_be_root(daemon, world):
    claim = opaque_auth_sys(uid=0)
    daemon.eval_as_nobody(f"call(2, {rpc.V2_SET_ONLY}, {rpc.device(world.gpus[0]) + rpc.words(rpc.DISABLED)!r}, "
                          f"cred=(1, {claim!r})).words")
    assert_not_obeyed(daemon, world)


def opaque_auth_sys(uid):
    """AUTH_SYS (RFC 5531, appendix A): stamp, machine name, uid, gid, no groups."""
    return rpc.words(0) + rpc.opaque(b"node") + rpc.words(uid, 0, 0)


CLIENT = Path(rpc.__file__).read_text()


def test_a_set_by_root_of_a_container(kernel, world, daemon):
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-I", "-c", CLIENT,
               str(daemon.socket_path), f"set_only({world.gpus[0]!r}, {rpc.DISABLED})"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert_not_obeyed(daemon, world)


@pytest.mark.parametrize("taken", [["setpriv", "--bounding-set=-sys_admin"], ["unshare", "--user"]],
                         ids=["capabilities", "users"])
def test_a_set_by_root_of_a_container_that_shares_the_hosts_pids(kernel, world, daemon, taken):
    """As with hostPID in Kubernetes: the caller has uid 0 and is in the daemon's PID namespace."""
    command = [*taken, sys.executable, "-I", "-c", CLIENT, str(daemon.socket_path),
               f"set_only({world.gpus[0]!r}, {rpc.DISABLED})"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert_not_obeyed(daemon, world)


# Runs as root in its own PID namespace: connects, passes the connection to the test, and ends when its standard input ends.
LENDER = """
import socket, sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
socket.send_fds(socket.socket(fileno=int(sys.argv[2])), [b"x"], [connection.fileno()])
sys.stdin.read()
"""


@contextlib.contextmanager
def process_with_pid(pid):
    """Starts a child of ours with exactly this unused pid. Other processes take pids too, so this may need several tries."""
    for _ in range(500):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).pause()
            os._exit(0)
        if child == pid:
            break
        assert process.kill_and_reap(child)
    try:
        assert child == pid, f"could not start a process with pid {pid}"
        yield
    finally:
        assert process.kill_and_reap(child)


def test_a_set_on_the_connection_of_a_container_process_that_has_ended_and_whose_pid_a_root_process_now_has(kernel, world, daemon):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = ["unshare", "--pid", "--fork", sys.executable, "-I", "-c", LENDER, str(daemon.socket_path),
                   str(theirs.fileno())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()], cwd="/") as lender:
            (fd,) = socket.recv_fds(ours, 1, 1)[1]
            pid = int(Path(f"/proc/{lender.pid}/task/{lender.pid}/children").read_text())
            lender.stdin.close()
            assert lender.wait(timeout=10) == 0
    with socket.socket(fileno=fd) as connection, process_with_pid(pid):
        connection.settimeout(HONEST_SEC)
        connection.sendall(set_off_record(world))
        with contextlib.suppress(OSError):
            connection.recv(100)
    assert_not_obeyed(daemon, world)


# ---- where the daemon writes


VICTIM = b"not yours to write\n"


@pytest.fixture
def victim(world):
    victim = world.base / "victim"
    victim.write_bytes(VICTIM)
    victim.chmod(0o600)
    return victim


def prepare(world):
    """Makes the runtime directory before the daemon starts."""
    directory = world.site.runtime_directory
    directory.mkdir(parents=True, exist_ok=True)
    return directory


class Background(Daemon):
    """A daemon whose start may fail. The fixture `start` ends it."""

    def check_log(self):
        pass


def kill_daemons():
    for pid in process.daemons():
        process.kill_and_reap(pid)


@pytest.fixture
def start(world):
    """start() returns the running daemon, or None if the daemon has refused to start."""
    def start():
        status = return_of_command(world.site, START_SEC)
        assert status is not None, f"the daemon's start hangs (for more than {START_SEC} s)"
        # After a failed start the daemon may need some time to exit.
        running = [pid for pid in process.daemons() if not process.wait_gone(pid, 5 if status else 0)]
        assert bool(running) == (status == 0), f"the command exits with {status}, and {len(running)} daemons run"
        return Background(world.site, running[0]) if running else None
    yield start
    kill_daemons()


def test_a_symbolic_link_in_the_place_of_the_pid_file(start, world, victim):
    prepare(world)
    world.site.pid_file.symlink_to(victim)
    start()
    assert victim.read_bytes() == VICTIM, "the daemon writes through the link"


def test_a_symbolic_link_in_the_place_of_the_socket(start, world, victim):
    prepare(world)
    world.site.socket_path.symlink_to(victim)
    daemon = start()
    assert victim.read_bytes() == VICTIM, "the daemon writes through the link"
    assert victim.stat().st_mode & 0o777 == 0o600, "the daemon changes the mode of the link's target"
    assert daemon, "the daemon does not start"
    assert_serves(daemon, world)


def test_a_fifo_in_the_place_of_the_pid_file(start, world):
    prepare(world)
    os.mkfifo(world.site.pid_file)
    start()


def test_a_folder_in_the_place_of_the_socket(start, world):
    prepare(world)
    world.site.socket_path.mkdir()
    assert start() is None, "the daemon runs, but no client can connect"


@pytest.fixture
def full_disk(world):
    """Mounts a file system without a free block where the daemon writes."""
    directory = world.site.machine.run if other_daemon() else prepare(world)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", str(directory)], check=True)
    (directory / "filler").write_bytes(bytes(4096))
    yield
    # NVIDIA's daemon may still run there and keep the mount busy.
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_full_disk_where_the_pid_file_is_written(full_disk, start, world):
    daemon = start()
    pid_file = world.site.pid_file
    assert daemon or not pid_file.exists() or pid_file.read_text(), "the daemon leaves an empty pid file"
    if daemon:
        assert_serves(daemon, world)


# ---- where the daemon logs


def fill_log(daemon, world, calls):
    """Makes calls for each of which a verbose daemon logs one or two lines."""
    for _ in range(calls):
        try:
            with daemon.connect(timeout=HONEST_SEC) as root:
                root.set_only(world.gpus[0], rpc.ENABLED)
        except (OSError, EOFError):
            return


def test_a_system_log_that_accepts_nothing(world):
    daemon = world.start_forking("--verbose")
    with daemon.log.held():
        fill_log(daemon, world, 200)
        try:
            assert_serves(daemon, world)
        finally:
            if other_daemon():
                process.kill_and_reap(daemon.pid)
                daemon.status = 0
    if not other_daemon():
        daemon.wait_for_log(r"\d+ messages were lost before this one: the log did not accept them in time")


@pytest.mark.holdfast_only("NVIDIA's daemon logs only to syslog")
def test_a_standard_error_that_nobody_reads(world):
    daemon = world.start("--verbose")
    fcntl.fcntl(daemon.log.pipe, fcntl.F_SETPIPE_SZ, 4096)
    with daemon.log.held():
        fill_log(daemon, world, 400)
        assert_serves(daemon, world)
    daemon.wait_for_log(r"\d+ messages were lost before this one: the log did not accept them in time")


@pytest.mark.holdfast_only("NVIDIA's daemon logs only to syslog")
def test_a_standard_error_that_nobody_reads_during_a_stop(world):
    daemon = world.start("--verbose")
    fcntl.fcntl(daemon.log.pipe, fcntl.F_SETPIPE_SZ, 4096)
    with daemon.log.held():
        fill_log(daemon, world, 100)
        assert_stops(daemon)


# ---- kills and clock jumps


@pytest.mark.both_backends
def test_kills_at_random_moments_of_a_start(world):
    """Each start finds what a killed daemon left, and the last daemon holds every GPU."""
    source = random.Random(35006)
    world.simulate(gpus=2, defaults="lock = 20ms\ninit = 100ms\nteardown = 20ms\n")
    for _ in range(5):
        return_of_command(world.site, source.uniform(0.02, 0.4))
        kill_daemons()
    daemon = world.start()
    assert_serves(daemon, world)
    world.sim.wait_users(1, 1)
    if world.backend == "kernel":
        assert daemon.open_nodes() == ["nvidia0", "nvidia1"], "the daemon does not hold all GPUs"


@pytest.fixture
def clock(world, build):
    """clock(seconds) sets the daemon's time of day that many seconds forward."""
    file = world.base / "clock"
    file.write_bytes(struct.pack("@q", 0))
    world.site.environment |= process.SANITIZER_BEHIND_PRELOAD | {
        "LD_PRELOAD": str(build / "tests/faults/jumping-clock.so"), "HOLDFAST_CLOCK_OFFSET": str(file),
    }
    return lambda seconds: file.write_bytes(struct.pack("@q", seconds))


def test_jumps_of_the_clock(clock, world, daemon):
    for seconds in (10**8, -10**8, -10**9, 10**7):
        clock(seconds)
        assert_serves(daemon, world)
    before = process.cpu_seconds(daemon.pid)
    assert not process.wait_gone(daemon.pid, 0.5)
    assert process.cpu_seconds(daemon.pid) - before < 0.25, "the daemon spins"
    if not other_daemon():  # checks that the daemon did see the jump
        assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
        with holdfast_rpc.Connection(daemon.socket_path) as connection:
            assert connection.gpu(world.gpus[0])["since_realtime"] / 1e6 > time.time() + 9 * 10**6


# ---- on the operator's command


COMMAND_SEC = 10


@pytest.fixture
def hung():
    with fuse.hung_file_system("nvidia0") as system:
        yield system


@pytest.fixture
def node():
    """A node made of files, with one GPU and no daemon."""
    node = Node()
    node.load_driver()
    node.add_gpu(THREE[0], 0, initialised=True)
    yield node
    node.clean_up()


def answer_of(hung, root, *words):
    """Returns what the operator's command prints while the file system hangs. Fails if the command hangs too."""
    arguments = [PROGRAM, *(["--root", root] if root else []), *words]
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=environment(), text=True) as command:
        try:
            return command.communicate(timeout=COMMAND_SEC)[0]
        except subprocess.TimeoutExpired:
            hung.end()
            raise AssertionError("the operator's command hangs") from None


@pytest.mark.holdfast_only("NVIDIA has no such command")
@pytest.mark.parametrize("words", [["status"], ["clients"]], ids=lambda words: words[0])
def test_a_file_called_nvidia0_on_a_file_system_that_hangs(hung, words):
    with fuse.process_on(hung, fuse.OPEN_FILE):
        assert "is not loaded" in answer_of(hung, None, *words)


LOOKS = [["status"], ["clients"], ["doctor", "--verbose"], ["release", "--", "true"], ["takeover", "--dry-run"]]


@pytest.mark.holdfast_only("NVIDIA has no such command")
@pytest.mark.parametrize("words", LOOKS, ids=lambda words: words[0])
def test_a_process_that_hangs_in_execve(node, hung, words):
    node.start_daemon(rows=[Row(THREE[0], minor=0)])
    with fuse.process_on(hung, fuse.EXECUTE) as job:
        told = answer_of(hung, node.root, *words)
    if words[0] != "takeover":
        assert f"reading the open files of process {job.pid} hangs" in " ".join(told.split()), told


@pytest.mark.holdfast_only("NVIDIA has no such command")
@pytest.mark.parametrize("words", [["clients"], ["release", "--", "true"]], ids=lambda words: words[0])
def test_a_process_whose_memory_map_is_locked(node, hung, words):
    fd = os.open(node.root / "dev/nvidia0", os.O_RDWR)
    with fuse.process_on(hung, fuse.LOCK_MEMORY, pass_fds=[fd]) as job:
        os.close(fd)
        told = answer_of(hung, node.root, *words)
    assert str(job.pid) in told, told


# ---- input that only our daemon reads


@pytest.mark.holdfast_only("NVIDIA's daemon reads no uevents")
def test_hostile_uevents(world, daemon):
    source = random.Random(35006)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for _ in range(300):
            sender.sendto(source.randbytes(source.randrange(2000)), str(daemon.socket_path.parent / "uevents"))
        sender.sendto(b"ACTION=remove\0SUBSYSTEM=pci\0DEVPATH=/x\0", str(daemon.socket_path.parent / "uevents"))
    assert_not_obeyed(daemon, world)


@pytest.mark.holdfast_only("NVIDIA's daemon has no configuration file")
def test_a_hostile_configuration_at_a_reload(world):
    config = world.base / "holdfast.conf"
    config.write_text("")
    daemon = world.start("--config", str(config))
    config.write_bytes(random.Random(35006).randbytes(100_000))
    os.kill(daemon.pid, 1)
    daemon.wait_for_log("the current configuration stays in effect")
    assert_not_obeyed(daemon, world)
