# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""How the daemon starts and ends: options, names, files, log texts, users, exit statuses (docs/protocol.md)."""

import contextlib
import fcntl
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from harness import process, rpc
from harness.events import wait_until
from harness.machine import DAEMON_NOTICE
from harness.world import QUICK

COMM = "nvidia-persiste"

one_backend = pytest.mark.one_backend("it is over, or looked at, before any GPU is touched")
exit_status_2 = pytest.mark.holdfast_only("NVIDIA's exits 0 after a wrong option")


def ids(pid):
    """(real uid, real gid, supplementary groups)."""
    fields = process.status_fields(pid)
    uids, gids = (set(map(int, fields[name].split())) for name in ("Uid", "Gid"))
    assert len(uids) == len(gids) == 1, f"not all ids are the same: {fields['Uid']}; {fields['Gid']}"
    return uids.pop(), gids.pop(), list(map(int, fields["Groups"].split()))


def is_locked(path):
    """Whether another process has a lock on the file, of either kind that pid files are locked with."""
    with open(path, "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


# ---- names and files


@one_backend
def test_the_process_is_known_by_the_name_that_health_checks_look_for(daemon):
    assert Path(f"/proc/{daemon.pid}/comm").read_text().strip() == COMM
    for command in (["pgrep", "-x", COMM], ["pidof", "nvidia-persistenced"], ["pgrep", "-f", "nvidia-persistenced"]):
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        assert str(daemon.pid) in found, f"{command} does not find it"


@one_backend
def test_the_socket_is_open_to_everybody(daemon):
    status = daemon.socket_path.stat()
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o777


@one_backend
def test_the_pid_file_has_the_pid_its_mode_and_a_lock(daemon):
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"
    assert stat.S_IMODE(daemon.pid_file.stat().st_mode) == 0o644
    assert is_locked(daemon.pid_file)


@one_backend
def test_a_strict_umask_changes_no_mode(world):
    before = os.umask(0o077)
    try:
        daemon = world.start()
    finally:
        os.umask(before)
    assert stat.S_IMODE(daemon.socket_path.stat().st_mode) == 0o777
    assert stat.S_IMODE(daemon.pid_file.stat().st_mode) == 0o644
    assert stat.S_IMODE(daemon.pid_file.parent.stat().st_mode) == 0o755


DEAD_BUT_FOR_A_THREAD = """
import ctypes, fcntl, sys, threading
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
threading.Thread(target=threading.Event().wait).start()
print("locked", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.holdfast_only("NVIDIA's has no threads")
def test_a_daemon_that_is_dead_but_for_a_thread_in_the_driver_keeps_no_other_from_starting(world):
    """As after a kill -9 while a GPU hangs: its first thread has ended, and the lock stays with the other one."""
    world.simulate()
    world.site.runtime_directory.mkdir(parents=True)
    command = [sys.executable, "-c", DEAD_BUT_FOR_A_THREAD, str(world.site.pid_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as dead:
        assert dead.stdout.readline() == b"locked\n"
        wait_until(lambda: process.status_fields(dead.pid)["State"].startswith("Z"), "its first thread's end")
        daemon = world.start()
        assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
        assert world.site.pid_in_file() == daemon.pid and is_locked(world.site.pid_file)
        dead.kill()


def test_sigterm_ends_it_in_time_and_removes_socket_and_pid_file(daemon):
    assert daemon.stop(timeout=5) == 0
    assert not daemon.socket_path.exists() and not daemon.pid_file.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_of_an_administrator_end_it_and_release_the_gpus(world, daemon, number):
    os.kill(daemon.pid, number)
    daemon.status = process.reap(daemon.pid, 5)
    assert daemon.status == 0
    assert [world.sim.gpu(address)["usage_count"] for address in world.gpus] == [0, 0]


@pytest.mark.holdfast_only("NVIDIA's has no --keep-socket")
def test_with_keep_socket_the_path_is_there_between_two_daemons(world):
    """Containers whose specification lists it can be made meanwhile."""
    first = world.start("--keep-socket")
    assert first.stop() == 0
    assert first.socket_path.is_socket() and not first.pid_file.exists()
    with pytest.raises(ConnectionRefusedError):
        first.connect()
    second = world.start()
    assert second.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    assert second.stop() == 0 and not second.socket_path.exists()


def test_files_left_by_a_killed_daemon_are_replaced(world):
    first = world.start()
    first.kill()
    assert first.socket_path.exists() and first.pid_file.exists(), "a killed daemon leaves both"
    second = world.start()
    assert second.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    assert second.pid_file.read_text() == f"{second.pid}\n"


@one_backend
@pytest.mark.holdfast_only("NVIDIA's leaves them")
def test_a_longer_pid_in_the_file_leaves_no_digits_behind(world):
    first = world.start()
    first.kill()
    first.pid_file.write_text("12345678901234567890\n")
    second = world.start()
    assert second.pid_file.read_text() == f"{second.pid}\n"


def test_a_second_daemon_refuses_and_says_who_runs(world, daemon):
    refused = world.run(*([] if world.site.other else ["--foreground"]))
    assert refused.returncode not in (0, 2)
    if not world.site.other:
        assert re.search(rf"\b{daemon.pid}\b", refused.stderr), refused.stderr
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"


# ---- log


def test_verbose_tells_each_step_and_each_device_in_hex(world, daemon):
    daemon.wait_for_log(r"Local RPC services initialized")
    daemon.wait_for_log(rf"Started \({daemon.pid}\)")
    for address in world.gpus:
        daemon.wait_for_log(rf"device {address} - registered")
        daemon.wait_for_log(rf"device {address} - persistence mode enabled\.")
    assert any(re.search("[a-f]", address) for address in world.gpus), "the scenario has an address that shows hex"
    daemon.set(world.gpus[1], rpc.ENABLED)
    daemon.wait_for_log(rf"device {world.gpus[1]} - already in requested persistence mode\.")
    daemon.set(world.gpus[1], rpc.DISABLED)
    daemon.wait_for_log(rf"device {world.gpus[1]} - persistence mode disabled\.")
    daemon.stop()
    daemon.wait_for_log(rf"Shutdown \({daemon.pid}\)")


def test_without_verbose_only_start_and_end_are_told(world):
    daemon = world.start()
    daemon.wait_for_log(rf"Started \({daemon.pid}\)")
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    daemon.stop()
    daemon.wait_for_log(rf"Shutdown \({daemon.pid}\)")
    assert len(daemon.log.all) == 2, daemon.log.text()


def test_without_verbose_a_gpu_that_fails_to_open_is_told(world):
    world.simulate(gpus=2, gpu1="fail_opens = all")
    daemon = world.start()
    daemon.wait_for_log(rf"device {world.gpus[1]} - failed to open\.")


@one_backend
def test_in_the_background_it_logs_to_syslog_as_daemon_and_notice(world):
    daemon = world.start_forking("--verbose")
    priority = f"<{DAEMON_NOTICE}>"
    daemon.wait_for_log(rf"^{priority}.* nvidia-persistenced(\[{daemon.pid}\])?: Started \({daemon.pid}\)$")
    daemon.wait_for_log(r"nvidia-persistenced(\[\d+\])?: Local RPC services initialized$")
    daemon.stop()
    daemon.wait_for_log(rf"^{priority}.*: Shutdown \({daemon.pid}\)$")


# ---- options


@one_backend
@pytest.mark.parametrize("option", ["-v", "--version"])
def test_version_is_printed_on_standard_output(world, option):
    done = world.run(option)
    assert done.returncode == 0 and done.stderr == ""
    assert re.search(r"nvidia-persistenced.*\d+\.\d+", done.stdout), done.stdout


OPTIONS = ("version", "help", "verbose", "user", "group", "persistence-mode", "no-persistence-mode",
           "uvm-persistence-mode", "no-uvm-persistence-mode", "nvidia-cfg-path")


@one_backend
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_option(world, option):
    done = world.run(option)
    assert done.returncode == 0 and done.stderr == ""
    missing = [name for name in OPTIONS if not re.search(rf"--(\[no-\])?{name.removeprefix('no-')}\b", done.stdout)]
    assert not missing, f"not in the help: {missing}\n{done.stdout}"


def assert_one_line_and_pointer_to_help(done, about):
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert about in done.stderr and "--help" in done.stderr, done.stderr


@one_backend
@pytest.mark.holdfast_only("NVIDIA's knows no other root")
def test_root_is_not_sent_to_other_files_by_its_environment(world):
    def check(root, *options):
        return subprocess.run([world.site.program, "--check-config", *options], timeout=20, check=False, text=True,
                              capture_output=True, env=world.site.environment | {"HOLDFAST_ROOT": str(root)})

    there = check(world.site.root)
    if os.geteuid() == 0:
        assert_one_line_and_pointer_to_help(there, "use --root")
    else:
        assert there.returncode == 0
    assert check(world.site.root, "--root", world.site.root).returncode == 0
    assert check("/").returncode == 0


@one_backend
@exit_status_2
@pytest.mark.parametrize("option", ["--bogus", "--persistance-mode", "-x", "--verbose=yes", "--nouser"])
def test_a_misspelt_option_exits_2_with_one_line_and_a_pointer_to_help(world, option):
    assert_one_line_and_pointer_to_help(world.run(option), option.split("=")[0])


@one_backend
@exit_status_2
def test_a_stray_argument_exits_2_with_one_line_and_a_pointer_to_help(world):
    assert_one_line_and_pointer_to_help(world.run("stray"), "stray")


@one_backend
@exit_status_2
@pytest.mark.parametrize("option", ["--user", "--group", "-u", "-g", "--nvidia-cfg-path"])
def test_an_option_without_its_argument_exits_2_with_one_line_and_a_pointer_to_help(world, option):
    assert_one_line_and_pointer_to_help(world.run(option), option)


@pytest.mark.holdfast_only("NVIDIA's makes nodes through its library")
def test_nodes_are_made_of_a_gpu_or_of_uvm_and_of_nothing_else(world):
    assert_one_line_and_pointer_to_help(world.run("--make-nodes=card0"), "card0")
    for what in ("--make-nodes", "--make-nodes=0000:17:00.0", "--make-nodes=uvm"):
        done = world.run(what)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "a simulated driver has its own"


@one_backend
def test_a_wrong_option_leaves_nothing_behind(world):
    world.run("--bogus")
    assert not world.site.socket_path.exists() and not world.site.pid_file.exists()


@one_backend
@pytest.mark.parametrize("option, value", [("--user", "no-such-user"), ("--group", "no-such-group")])
def test_an_unknown_user_or_group_is_named_and_fails(world, option, value):
    done = world.run(option, value)
    assert done.returncode not in (0, 2)
    assert value in done.stderr, done.stderr
    if not world.site.other:
        assert "Success" not in done.stderr, "an errno that nobody set"
    assert not world.site.pid_file.exists()


def test_options_of_the_original_are_taken_in_short_and_long_form(world):
    daemon = world.start_forking("-V", "-u", "root", "-g", "root", "--persistence-mode", "--no-uvm-persistence-mode")
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_no_persistence_mode_holds_nothing_until_asked(world):
    daemon = world.start("--no-persistence-mode")
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.DISABLED)
    assert world.sim.gpu(world.gpus[0])["initialisations"] == 0
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    assert daemon.get(world.gpus[1]) == (rpc.SUCCESS, rpc.DISABLED)


@pytest.mark.parametrize("options, enabled", [
    (("--no-persistence-mode", "--persistence-mode"), True),
    (("--persistence-mode", "--no-persistence-mode"), False),
], ids=["on is last", "off is last"])
def test_the_last_of_contradicting_options_counts(world, options, enabled):
    daemon = world.start(*options)
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, int(enabled))


# ---- users and groups


@pytest.mark.parametrize("options, group", [
    (("--user", "nobody"), process.NOBODY),
    (("--user", "nobody", "--group", "daemon"), 1),
    (("--group", "daemon", "--user", "nobody"), 1),
], ids=["primary group", "user, group", "group, user"])
def test_with_user_it_runs_and_holds_as_that_user_and_group(world, options, group):
    daemon = world.start(*options)
    uid, gid, groups = ids(daemon.pid)
    assert (uid, gid) == (process.NOBODY, group)
    if not world.site.other:  # NVIDIA's keeps root's supplementary groups
        assert set(groups) <= {gid}
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_group_alone_keeps_the_user(world):
    daemon = world.start("--group", "daemon")
    assert ids(daemon.pid)[:2] == (0, 1)


def test_with_user_socket_and_pid_file_are_removed_at_the_end_all_the_same(world):
    daemon = world.start("--user", "nobody")
    assert daemon.stop() == 0
    assert not daemon.socket_path.exists() and not daemon.pid_file.exists()


def test_with_user_a_root_caller_may_still_set(world):
    daemon = world.start("--user", "nobody")
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS


# ---- into the background


def test_the_starting_command_returns_when_every_gpu_was_attempted(world):
    world.simulate(gpus=3, defaults="lock = 0ms\ninit = 400ms\nteardown = 1ms\n")
    daemon = world.start_forking()
    assert [daemon.get(address) for address in world.gpus] == [(rpc.SUCCESS, rpc.ENABLED)] * 3
    assert Path(f"/proc/{daemon.pid}/comm").read_text().strip() == COMM
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"


@one_backend
def test_in_the_background_it_is_a_daemon(world):
    daemon = world.start_forking()
    session, terminal = Path(f"/proc/{daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()[3:5]
    assert int(session) != os.getsid(0) and terminal == "0"
    assert os.path.samefile(f"/proc/{daemon.pid}/cwd", "/")


@pytest.mark.holdfast_only("NVIDIA's closes descriptors 0 to 2 and re-uses them")
def test_in_the_background_standard_streams_are_dev_null(world):
    daemon = world.start_forking()
    assert all(os.path.samestat(os.stat(f"/proc/{daemon.pid}/fd/{number}"), os.stat("/dev/null"))
               for number in range(3))


@pytest.mark.holdfast_only("NVIDIA's has no such option")
def test_in_the_foreground_it_does_not_fork(world):
    daemon = world.begin("--verbose")
    daemon.wait_ready()
    assert world.site.pid_in_file() == daemon.pid


@pytest.mark.holdfast_only("NVIDIA's knows nothing of NOTIFY_SOCKET")
def test_with_notify_socket_it_stays_in_the_foreground_whatever_the_options_say(world):
    daemon = world.begin(foreground=False)
    daemon.wait_ready()
    assert world.site.pid_in_file() == daemon.pid


@pytest.mark.holdfast_only("NVIDIA's knows nothing of NOTIFY_SOCKET")
def test_ready_comes_with_a_status_line_that_counts_the_gpus(world):
    daemon = world.start()
    daemon.notifications.wait_for("^STATUS=.*2 of 2 GPUs held")
    daemon.stop()
    daemon.notifications.wait_for("^STOPPING=1$")


def make_unwritable_runtime_directory(world):
    directory = world.site.runtime_directory
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    os.chown(directory, 0, 0)
    return directory


@one_backend
@pytest.mark.holdfast_only("NVIDIA's parent says nothing of why")
@pytest.mark.parametrize("foreground", [False, True])
def test_a_runtime_directory_that_the_user_cannot_write_fails_and_is_named(world, foreground):
    directory = make_unwritable_runtime_directory(world)
    directory.chmod(0o755)
    done = world.run(*(["--foreground"] if foreground else []),
                     prefix=["setpriv", f"--reuid={process.NOBODY}", f"--regid={process.NOBODY}", "--clear-groups"])
    assert done.returncode not in (0, 2)
    assert str(directory) in done.stderr, done.stderr
    assert re.search(rf"\bnobody\b|\b{process.NOBODY}\b", done.stderr), done.stderr


def test_what_a_daemon_of_another_user_left_is_taken_over(world):
    """After a change of --user, without an rm by hand: its directory, its pid file and its socket."""
    directory = make_unwritable_runtime_directory(world)
    for path in (world.site.pid_file, world.site.socket_path):
        path.write_text("1234\n")
        path.chmod(0o644)
    daemon = world.start("--user", "nobody")
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    assert (directory.stat().st_uid, directory.stat().st_mode & 0o777) == (process.NOBODY, 0o755)
    assert world.site.pid_in_file() == daemon.pid


@one_backend
@pytest.mark.holdfast_only("NVIDIA's follows the link")
def test_a_link_in_the_place_of_the_runtime_directory_gives_nothing_away(world):
    target = world.base / "target"
    target.mkdir(mode=0o700)
    world.site.runtime_directory.symlink_to(target)
    done = world.run("--user", "nobody")
    assert done.returncode not in (0, 2)
    assert (target.stat().st_uid, target.stat().st_mode & 0o777) == (0, 0o700)


@one_backend
@pytest.mark.holdfast_only("NVIDIA's parent says nothing of why")
def test_the_starting_command_prints_the_childs_error_and_fails(world):
    directory = world.site.runtime_directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.write_text("a file where the folder should be\n")
    done = world.run()
    assert done.returncode not in (0, 2)
    assert str(directory) in done.stderr, done.stderr


def test_a_missing_nvidia_cfg_library_is_named_and_fails(world):
    if world.backend != "nvidia-cfg":
        done = world.run("--backend", "nvidia-cfg", "--nvidia-cfg-path", "/nonexistent")
    else:
        done = world.run("--nvidia-cfg-path", "/nonexistent")
    assert done.returncode not in (0, 2)
    if not world.site.other:
        assert "/nonexistent" in done.stderr, done.stderr


@pytest.mark.holdfast_only("NVIDIA's ignores what fails")
def test_no_gpu_held_is_still_a_start(world):
    world.simulate(gpus=2, defaults=QUICK + "fail_opens = all\n")
    daemon = world.start_forking()
    assert [daemon.get(address) for address in world.gpus] == [(rpc.SUCCESS, rpc.DISABLED)] * 2


@one_backend
def test_the_starting_command_lets_go_of_the_pipes_it_was_given(world):
    """output=$(nvidia-persistenced) must return: the harness reads both pipes to their end, with a limit."""
    daemon = world.start_forking(timeout=10)
    ours = {target for target in process.open_files(os.getpid()).values() if target.startswith("pipe:")}
    assert not ours & set(process.open_files(daemon.pid).values())


@one_backend
def test_the_socket_credentials_are_those_of_the_daemon(daemon):
    """What `holdfast` and others ask SO_PEERCRED for: the pid of the daemon, not that of a parent that is gone."""
    with daemon.connect() as connection:
        credentials = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    assert struct.unpack("3i", credentials)[0] == daemon.pid


@pytest.mark.holdfast_only("NVIDIA's sets it on none")
def test_every_descriptor_but_the_standard_ones_closes_at_an_exec(daemon):
    """A program that inherited one would hold its GPU."""
    close_on_exec = 0o2000000
    flags = {}
    for info in Path(f"/proc/{daemon.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since the folder was read
            if int(info.name) > 2:
                flags[info.name] = int(re.search(r"^flags:\s+(\d+)", info.read_text(), re.MULTILINE)[1], 8)
    assert len(flags) > 4
    assert [number for number, value in flags.items() if not value & close_on_exec] == []
