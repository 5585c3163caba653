# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What is left of root in the daemon, and whose orders it takes (docs/protocol.md)."""

import grp
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness import process, rpc

pytestmark = pytest.mark.holdfast_only("NVIDIA's keeps groups and capabilities, and takes orders from any uid 0")

# Numbers of <linux/capability.h>.
CAP_DAC_OVERRIDE = 1
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

ADMINS = 4242  # a group id that need not exist by name


def capability_sets(fields):
    """The five sets of a /proc/PID/status as sets of numbers."""
    return {name: {bit for bit in range(64) if int(fields[name], 16) >> bit & 1} for name in SETS}


def capabilities(pid):
    return capability_sets(process.status_fields(pid))


# ---- what is left


def test_with_user_nothing_is_left_of_root(world):
    daemon = world.start("--user", "nobody")
    fields = process.status_fields(daemon.pid)
    assert fields["Uid"].split() == fields["Gid"].split() == [str(process.NOBODY)] * 4
    assert set(fields["Groups"].split()) <= {str(process.NOBODY)}
    assert capabilities(daemon.pid) == {name: set() for name in SETS}
    assert fields["NoNewPrivs"] == "1"
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def capabilities_of_root(kept):
    return {"CapInh": set(), "CapAmb": set(), "CapPrm": kept, "CapEff": kept, "CapBnd": kept}


@pytest.mark.parametrize("backend", ["kernel"])
@pytest.mark.parametrize("options, why", [((), "--user was not given"), (("--user", "root"), "--user says so")],
                         ids=["no user", "root"])
def test_as_root_it_keeps_no_capability_and_says_why_it_is_root(world, options, why):
    daemon = world.start("--verbose", *options)
    fields = process.status_fields(daemon.pid)
    assert fields["Uid"].split() == ["0"] * 4
    assert capabilities(daemon.pid) == capabilities_of_root(set())
    assert fields["NoNewPrivs"] == "1"
    daemon.wait_for_log(f"Running as root, because {why}; capabilities: none$")


@pytest.mark.parametrize("backend", ["nvidia-cfg"])  # which the tests have without a driver below it
def test_as_root_without_a_driver_it_keeps_what_opens_nodes_of_any_owner(world):
    daemon = world.start("--verbose")
    assert capabilities(daemon.pid) == capabilities_of_root({CAP_DAC_OVERRIDE})
    daemon.wait_for_log(r"capabilities: CAP_DAC_OVERRIDE \(no driver is loaded yet, so the owner of its nodes is unknown\)$")


@pytest.mark.parametrize("backend", ["kernel"])
def test_as_root_it_keeps_what_opens_a_socket_of_another_owner_and_says_so(world):
    keeper = world.site.root / "run/holdfast/keeper"
    keeper.parent.mkdir()
    keeper.touch(mode=0o600)
    os.chown(keeper, process.NOBODY, process.NOBODY)
    daemon = world.start("--verbose")
    assert capabilities(daemon.pid) == capabilities_of_root({CAP_DAC_OVERRIDE})
    daemon.wait_for_log(rf"capabilities: CAP_DAC_OVERRIDE \({keeper} belongs to uid {process.NOBODY}, with mode 0600\)$")


def test_of_a_daemon_that_is_not_root_nothing_is_said_of_root(world):
    daemon = world.start("--verbose", "--user", "nobody")
    assert not daemon.log.has("Running as root")


def test_every_thread_has_dropped_the_same(world):
    world.simulate(gpus=2, gpu1="hang = open")
    daemon = world.begin("--user", "nobody", "--verbose")
    daemon.wait_for_log(rf"device {world.gpus[0]} - persistence mode enabled\.")
    threads = process.thread_fields(daemon.pid)
    assert len(threads) > 1, "the GPU that hangs has a thread of its own"
    for fields in threads:
        assert capability_sets(fields) == {name: set() for name in SETS}
    world.sim.ctl("hang", gpu=world.gpus[1], on=False)
    daemon.wait_ready()


def test_what_it_makes_has_the_modes_of_the_contract_under_any_user(world):
    daemon = world.start("--user", "nobody")
    assert stat.S_IMODE(daemon.socket_path.stat().st_mode) == 0o777
    assert stat.S_IMODE(daemon.pid_file.stat().st_mode) == 0o644
    assert daemon.pid_file.stat().st_uid == process.NOBODY


def test_a_root_that_comes_after_another_user_takes_over_what_that_left(world):
    first = world.start("--user", "nobody")
    first.kill()
    assert first.pid_file.stat().st_uid == process.NOBODY
    second = world.start()
    assert world.site.pid_in_file() == second.pid
    assert second.stop() == 0
    assert not second.socket_path.exists() and not second.pid_file.exists()


def as_user(uid):
    """Before the daemon's command line: started by a uid that has nothing to drop, as with User= in a unit."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def test_started_as_an_ordinary_user_it_has_nothing_to_drop(world):
    directory = world.site.runtime_directory
    directory.mkdir()
    os.chown(directory, process.NOBODY, process.NOBODY)
    daemon = world.begin(prefix=as_user(process.NOBODY))
    daemon.wait_ready()
    assert capabilities(daemon.pid)["CapEff"] == set()
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_an_ordinary_user_that_asks_for_another_is_told_what_to_do(world):
    done = world.run("--foreground", "--user", "daemon", prefix=as_user(process.NOBODY))
    assert done.returncode == 4
    assert "daemon" in done.stderr and str(process.NOBODY) in done.stderr and "--user" in done.stderr, done.stderr


# As a unit's SystemCallFilter=~@privileged does.
REFUSING = """
import ctypes, os, sys
library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
library.seccomp_init.argtypes = [ctypes.c_uint32]
library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
library.seccomp_load.argtypes = [ctypes.c_void_p]
context = library.seccomp_init(0x7fff0000)
for name in b"setgroups", b"setresgid", b"setresuid":
    assert library.seccomp_rule_add(context, 0x00050001, library.seccomp_syscall_resolve_name(name), 0) == 0
assert library.seccomp_load(context) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("options", [("--user", "nobody"), ("--user", "nobody", "--group", "nogroup"),
                                     ("--group", "nogroup")], ids=["user", "user and group", "group"])
def test_who_it_already_is_it_does_not_become_again(world, options):
    """The most common drop-in names the user that the unit has; the unit's filter refuses even a change to what is."""
    directory = world.site.runtime_directory
    directory.mkdir()
    os.chown(directory, process.NOBODY, process.NOBODY)
    daemon = world.begin(*options, prefix=[*as_user(process.NOBODY), sys.executable, "-c", REFUSING])
    daemon.wait_ready()
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_a_filter_that_refuses_the_change_is_named(world):
    done = world.run("--foreground", "--user", "nobody", prefix=[sys.executable, "-c", REFUSING])
    assert done.returncode == 4
    assert "SystemCallFilter=" in done.stderr and "--user" in done.stderr, done.stderr


def test_an_ordinary_user_that_asks_for_root_stays_what_it_is(world):
    directory = world.site.runtime_directory
    directory.mkdir()
    os.chown(directory, process.NOBODY, process.NOBODY)
    daemon = world.begin("--user", "root", prefix=as_user(process.NOBODY))
    daemon.wait_for_log(f"--user root is given, but the daemon was started as uid {process.NOBODY}")
    daemon.wait_ready()
    assert process.status_fields(daemon.pid)["Uid"].split() == [str(process.NOBODY)] * 4


# ---- whose orders it takes

one_backend = pytest.mark.one_backend("callers are judged before any GPU is touched")


def call(daemon, expression, *, prefix=()):
    """Connection.EXPRESSION in a process of its own, started by the prefix."""
    source = Path(rpc.__file__).read_text()
    command = [*prefix, sys.executable, "-I", "-c", source, str(daemon.socket_path), expression]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IN_CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc")


def set_off(world):
    return f"set_only({world.gpus[0]!r}, {rpc.DISABLED})"


@one_backend
def test_root_of_another_pid_namespace_is_refused_and_logged_and_may_ask(world, daemon):
    assert call(daemon, set_off(world), prefix=IN_CONTAINER) == str(rpc.PERMISSIONS)
    daemon.wait_for_log(r"refused SetPersistenceModeOnly from uid 0, pid \d+: .*PID namespace.*--allow-containers")
    assert call(daemon, f"get({world.gpus[0]!r})", prefix=IN_CONTAINER) == str((rpc.SUCCESS, rpc.ENABLED))


@one_backend
def test_the_same_root_outside_is_obeyed(world, daemon):
    assert call(daemon, set_off(world)) == str(rpc.SUCCESS)
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.DISABLED)


@one_backend
def test_with_allow_containers_root_of_another_pid_namespace_is_obeyed(world):
    daemon = world.start("--allow-containers")
    assert call(daemon, set_off(world), prefix=IN_CONTAINER) == str(rpc.SUCCESS)
    assert call(daemon, set_off(world), prefix=as_user(process.NOBODY)) == str(rpc.PERMISSIONS)


@one_backend
def test_a_daemon_without_privileges_can_tell_containers_apart_too(world):
    daemon = world.start("--user", "nobody")
    assert call(daemon, set_off(world), prefix=IN_CONTAINER) == str(rpc.PERMISSIONS)
    assert call(daemon, set_off(world)) == str(rpc.SUCCESS)


@one_backend
def test_a_daemon_in_a_container_of_its_own_obeys_root_there_and_not_outside(world):
    container = world.begin(prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))
    container.wait_ready()
    pid = int(Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text())
    inside = ("nsenter", f"--pid=/proc/{pid}/ns/pid", "--")
    try:
        assert call(container, set_off(world)) == str(rpc.PERMISSIONS)
        assert call(container, set_off(world), prefix=inside) == str(rpc.SUCCESS)
    finally:
        os.kill(pid, signal.SIGTERM)
        assert container.wait_exit() == 0


def adopt(fd):
    """A connection that another process made."""
    connection = rpc.Connection.__new__(rpc.Connection)
    connection.socket = socket.socket(fileno=fd)
    connection.socket.settimeout(5)
    return connection


@one_backend
def test_a_caller_that_left_before_it_was_heard_is_refused(world, daemon):
    """Nobody can tell any more where it was: its pid may be another's by now."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            with daemon.connect() as connection:
                socket.send_fds(theirs, [b"x"], [connection.socket.fileno()])
        finally:
            os._exit(0)
    with ours, theirs:
        (fd,) = socket.recv_fds(ours, 1, 1)[1]
    assert process.reap(pid, 10) == 0
    with adopt(fd) as connection:
        assert connection.set_only(world.gpus[0], rpc.DISABLED) == rpc.PERMISSIONS
        assert connection.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    daemon.wait_for_log(rf"refused SetPersistenceModeOnly from uid 0, pid {pid}: it ended")


def member_of(*groups):
    return ["setpriv", f"--reuid={process.NOBODY}", f"--regid={process.NOBODY}",
            f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"]


@pytest.fixture
def admin_group():
    """A group that every machine has."""
    return grp.getgrnam("daemon")


@one_backend
def test_members_of_the_admin_group_are_obeyed_and_others_not(world, admin_group):
    daemon = world.start("--admin-group", admin_group.gr_name)
    assert call(daemon, set_off(world), prefix=member_of()) == str(rpc.PERMISSIONS)
    assert call(daemon, set_off(world), prefix=member_of(ADMINS)) == str(rpc.PERMISSIONS)
    assert call(daemon, set_off(world), prefix=member_of(ADMINS, admin_group.gr_gid)) == str(rpc.SUCCESS)
    primary = ["setpriv", f"--reuid={process.NOBODY}", f"--regid={admin_group.gr_gid}", "--clear-groups"]
    assert call(daemon, set_off(world), prefix=primary) == str(rpc.SUCCESS)


@one_backend
def test_without_an_admin_group_no_group_is_obeyed(world, daemon, admin_group):
    assert call(daemon, set_off(world), prefix=member_of(0, admin_group.gr_gid)) == str(rpc.PERMISSIONS)


@one_backend
def test_an_unknown_admin_group_is_named_and_fails(world):
    done = world.run("--foreground", "--admin-group", "no-such-group")
    assert done.returncode == 6
    assert "no-such-group" in done.stderr and "--admin-group" in done.stderr, done.stderr


@one_backend
def test_refusals_of_one_user_are_counted_after_a_few_and_hide_nobody_elses(world, daemon):
    for _ in range(12):
        assert call(daemon, set_off(world), prefix=as_user(process.NOBODY)) == str(rpc.PERMISSIONS)
    assert call(daemon, set_off(world), prefix=as_user(process.NOBODY - 1)) == str(rpc.PERMISSIONS)
    daemon.wait_for_log(rf"refused SetPersistenceModeOnly from uid {process.NOBODY - 1}, ")
    assert len(re.findall(rf"refused \w+ from uid {process.NOBODY}, ", daemon.log.text())) == 5
    daemon.stop()
    daemon.wait_for_log(rf"refused calls of uid {process.NOBODY}: 7 more suppressed")
