# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Which privileges of root the daemon keeps, and whose Sets it accepts (docs/compatibility.md, docs/protocol.md)."""

import ctypes
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

pytestmark = pytest.mark.holdfast_only("NVIDIA's daemon keeps groups and capabilities, and accepts Sets from any uid 0")

# From <linux/capability.h>.
CAP_DAC_OVERRIDE = 1
CAP_SYS_ADMIN = 21
CAPABILITY_VERSION_3 = 0x20080522
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

ADMINS = 4242  # a group id that need not exist by name


def capability_sets(fields):
    """The five capability sets in /proc/PID/status, as sets of numbers."""
    return {name: {bit for bit in range(64) if int(fields[name], 16) >> bit & 1} for name in SETS}


def capabilities(pid):
    return capability_sets(process.status_fields(pid))


# ---- privileges that the daemon keeps


def test_with_user_the_daemon_keeps_no_privilege_of_root(world):
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
def test_as_root_the_daemon_keeps_no_capability_and_logs_why_it_is_root(world, options, why):
    daemon = world.start("--verbose", *options)
    fields = process.status_fields(daemon.pid)
    assert fields["Uid"].split() == ["0"] * 4
    assert capabilities(daemon.pid) == capabilities_of_root(set())
    assert fields["NoNewPrivs"] == "1"
    daemon.wait_for_log(f"Running as root, because {why}; capabilities: none$")


@pytest.mark.parametrize("backend", ["nvidia-cfg"])  # with this backend there are no driver files below --root
def test_as_root_without_a_driver_the_daemon_keeps_cap_dac_override_for_its_nodes(world):
    daemon = world.start("--verbose")
    assert capabilities(daemon.pid) == capabilities_of_root({CAP_DAC_OVERRIDE})
    daemon.wait_for_log(r"capabilities: CAP_DAC_OVERRIDE \(no driver is loaded yet, so the owner of its nodes is unknown\)$")


@pytest.mark.parametrize("backend", ["kernel"])
def test_as_root_the_daemon_keeps_cap_dac_override_for_a_keeper_of_another_user(world):
    keeper = world.site.root / "run/holdfast/keeper"
    keeper.parent.mkdir()
    keeper.touch(mode=0o600)
    os.chown(keeper, process.NOBODY, process.NOBODY)
    daemon = world.start("--verbose")
    assert capabilities(daemon.pid) == capabilities_of_root({CAP_DAC_OVERRIDE})
    daemon.wait_for_log(rf"capabilities: CAP_DAC_OVERRIDE \({keeper} belongs to uid {process.NOBODY}, with mode 0600\)$")


def test_a_daemon_that_is_not_root_logs_nothing_about_root(world):
    daemon = world.start("--verbose", "--user", "nobody")
    assert not daemon.log.has("Running as root")


def test_every_thread_has_dropped_all_capabilities(world):
    world.simulate(gpus=2, gpu1="hang = open")
    daemon = world.begin("--user", "nobody", "--verbose")
    daemon.wait_for_log(rf"device {world.gpus[0]} - persistence mode enabled\.")
    threads = process.thread_fields(daemon.pid)
    assert len(threads) > 1, "there is no thread for the GPU that hangs"
    for fields in threads:
        assert capability_sets(fields) == {name: set() for name in SETS}
    world.sim.ctl("hang", gpu=world.gpus[1], on=False)
    daemon.wait_ready()


def test_with_another_user_the_socket_and_pid_file_have_the_documented_modes(world):
    daemon = world.start("--user", "nobody")
    assert stat.S_IMODE(daemon.socket_path.stat().st_mode) == 0o777
    assert stat.S_IMODE(daemon.pid_file.stat().st_mode) == 0o644
    assert daemon.pid_file.stat().st_uid == process.NOBODY


def test_a_daemon_as_root_takes_over_the_files_of_a_daemon_of_another_user(world):
    first = world.start("--user", "nobody")
    first.kill()
    assert first.pid_file.stat().st_uid == process.NOBODY
    second = world.start()
    assert world.site.pid_in_file() == second.pid
    assert second.stop() == 0
    assert not second.socket_path.exists() and not second.pid_file.exists()


def as_user(uid):
    """A prefix that starts the daemon as this user, without capabilities, as User= in a unit does."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def test_a_daemon_started_by_an_ordinary_user_works_and_has_no_capability(world):
    directory = world.site.runtime_directory
    directory.mkdir()
    os.chown(directory, process.NOBODY, process.NOBODY)
    daemon = world.begin(prefix=as_user(process.NOBODY))
    daemon.wait_ready()
    assert capabilities(daemon.pid)["CapEff"] == set()
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_user_given_by_an_ordinary_user_fails_and_says_what_to_do(world):
    done = world.run("--foreground", "--user", "daemon", prefix=as_user(process.NOBODY))
    assert done.returncode == 4
    assert "daemon" in done.stderr and str(process.NOBODY) in done.stderr and "--user" in done.stderr, done.stderr


# Denies the same calls as SystemCallFilter=~@privileged in a unit.
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
def test_the_daemon_does_not_change_to_the_user_and_group_that_it_already_has(world, options):
    """The most common drop-in names the user that the unit already sets. The unit's filter denies setresuid() even then."""
    directory = world.site.runtime_directory
    directory.mkdir()
    os.chown(directory, process.NOBODY, process.NOBODY)
    daemon = world.begin(*options, prefix=[*as_user(process.NOBODY), sys.executable, "-c", REFUSING])
    daemon.wait_ready()
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_a_system_call_filter_that_refuses_the_change_of_user_is_named(world):
    done = world.run("--foreground", "--user", "nobody", prefix=[sys.executable, "-c", REFUSING])
    assert done.returncode == 4
    assert "SystemCallFilter=" in done.stderr and "--user" in done.stderr, done.stderr


def test_user_root_given_by_an_ordinary_user_has_no_effect(world):
    directory = world.site.runtime_directory
    directory.mkdir()
    os.chown(directory, process.NOBODY, process.NOBODY)
    daemon = world.begin("--user", "root", prefix=as_user(process.NOBODY))
    daemon.wait_for_log(f"--user root is given, but the daemon was started as uid {process.NOBODY}")
    daemon.wait_ready()
    assert process.status_fields(daemon.pid)["Uid"].split() == [str(process.NOBODY)] * 4


# ---- callers whose Sets it accepts

one_backend = pytest.mark.one_backend("the daemon checks the caller before it uses a GPU")


def call(daemon, expression, *, prefix=()):
    """Evaluates Connection.EXPRESSION in a new process, which `prefix` starts. Returns the text of the result."""
    source = Path(rpc.__file__).read_text()
    command = [*prefix, sys.executable, "-I", "-c", source, str(daemon.socket_path), expression]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IN_CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc")


def set_off(world):
    return f"set_only({world.gpus[0]!r}, {rpc.DISABLED})"


@one_backend
def test_a_set_by_root_of_another_pid_namespace_is_refused_and_logged_but_a_get_is_served(world, daemon):
    assert call(daemon, set_off(world), prefix=IN_CONTAINER) == str(rpc.PERMISSIONS)
    daemon.wait_for_log(r"refused SetPersistenceModeOnly from uid 0, pid \d+: .*PID namespace.*--allow-containers")
    assert call(daemon, f"get({world.gpus[0]!r})", prefix=IN_CONTAINER) == str((rpc.SUCCESS, rpc.ENABLED))


@one_backend
def test_a_set_by_root_of_the_same_pid_namespace_succeeds(world, daemon):
    assert call(daemon, set_off(world)) == str(rpc.SUCCESS)
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.DISABLED)


@one_backend
def test_with_allow_containers_a_set_by_root_of_another_pid_namespace_succeeds(world):
    daemon = world.start("--allow-containers")
    assert call(daemon, set_off(world), prefix=IN_CONTAINER) == str(rpc.SUCCESS)
    assert call(daemon, set_off(world), prefix=as_user(process.NOBODY)) == str(rpc.PERMISSIONS)


@one_backend
def test_a_daemon_without_privileges_also_distinguishes_containers(world):
    daemon = world.start("--user", "nobody")
    assert call(daemon, set_off(world), prefix=IN_CONTAINER) == str(rpc.PERMISSIONS)
    assert call(daemon, set_off(world)) == str(rpc.SUCCESS)


@one_backend
def test_a_daemon_in_a_container_obeys_root_of_the_container_and_not_of_the_host(world):
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
    """A Connection for a descriptor that another process has connected."""
    connection = rpc.Connection.__new__(rpc.Connection)
    connection.socket = socket.socket(fileno=fd)
    connection.socket.settimeout(5)
    return connection


@one_backend
def test_a_set_by_a_process_that_has_ended_is_refused(world, daemon):
    """The daemon can no longer find out the caller's PID namespace, since another process may have its pid by now."""
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


def set_effective(number, on):
    """Raises or lowers a capability of this process, without giving it up: capset(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: of numbers 0-31, and of the others
    assert libc.capget(header, sets) == 0
    sets[0] = sets[0] | 1 << number if on else sets[0] & ~(1 << number)
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())


@one_backend
def test_a_process_of_root_may_set_as_soon_as_it_has_raised_its_capability(world, daemon):
    """The daemon remembers processes that have connected before, but not their capabilities."""
    pid = os.fork()
    if pid == 0:
        answers = []
        try:
            for on in (False, True):
                set_effective(CAP_SYS_ADMIN, on)
                with daemon.connect() as connection:
                    answers.append(connection.set_only(world.gpus[0], rpc.DISABLED))
        finally:
            os._exit(0 if answers == [rpc.PERMISSIONS, rpc.SUCCESS] else 1)
    assert process.reap(pid, 20) == 0
    daemon.wait_for_log(rf"refused SetPersistenceModeOnly from uid 0, pid {pid}: it has no CAP_SYS_ADMIN")


def member_of(*groups):
    return ["setpriv", f"--reuid={process.NOBODY}", f"--regid={process.NOBODY}",
            f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"]


@pytest.fixture
def admin_group():
    """A group that exists on every machine."""
    return grp.getgrnam("daemon")


@one_backend
def test_sets_by_members_of_the_admin_group_succeed_and_by_others_are_refused(world, admin_group):
    daemon = world.start("--admin-group", admin_group.gr_name)
    assert call(daemon, set_off(world), prefix=member_of()) == str(rpc.PERMISSIONS)
    assert call(daemon, set_off(world), prefix=member_of(ADMINS)) == str(rpc.PERMISSIONS)
    assert call(daemon, set_off(world), prefix=member_of(ADMINS, admin_group.gr_gid)) == str(rpc.SUCCESS)
    primary = ["setpriv", f"--reuid={process.NOBODY}", f"--regid={admin_group.gr_gid}", "--clear-groups"]
    assert call(daemon, set_off(world), prefix=primary) == str(rpc.SUCCESS)


@one_backend
def test_without_an_admin_group_membership_in_any_group_permits_no_set(world, daemon, admin_group):
    assert call(daemon, set_off(world), prefix=member_of(0, admin_group.gr_gid)) == str(rpc.PERMISSIONS)


@one_backend
def test_an_unknown_admin_group_is_named_and_the_start_fails(world):
    done = world.run("--foreground", "--admin-group", "no-such-group")
    assert done.returncode == 6
    assert "no-such-group" in done.stderr and "--admin-group" in done.stderr, done.stderr


@one_backend
def test_after_five_refusals_of_one_user_the_log_counts_them_and_still_names_other_users(world, daemon):
    for _ in range(12):
        assert call(daemon, set_off(world), prefix=as_user(process.NOBODY)) == str(rpc.PERMISSIONS)
    assert call(daemon, set_off(world), prefix=as_user(process.NOBODY - 1)) == str(rpc.PERMISSIONS)
    daemon.wait_for_log(rf"refused SetPersistenceModeOnly from uid {process.NOBODY - 1}, ")
    assert len(re.findall(rf"refused \w+ from uid {process.NOBODY}, ", daemon.log.text())) == 5
    daemon.stop()
    daemon.wait_for_log(rf"refused calls of uid {process.NOBODY}: 7 more suppressed")
