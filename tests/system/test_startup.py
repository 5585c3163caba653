# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The daemon's start and end: options, names, files, log messages, users, exit statuses (docs/compatibility.md)."""

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

one_backend = pytest.mark.one_backend("the test ends, or does its checks, before the daemon uses a GPU")
exit_status_2 = pytest.mark.holdfast_only("NVIDIA's daemon exits with 0 after a wrong option")


def ids(pid):
    """The process's (uid, gid, supplementary groups)."""
    fields = process.status_fields(pid)
    uids, gids = (set(map(int, fields[name].split())) for name in ("Uid", "Gid"))
    assert len(uids) == len(gids) == 1, f"the ids differ: {fields['Uid']}; {fields['Gid']}"
    return uids.pop(), gids.pop(), list(map(int, fields["Groups"].split()))


def is_locked(path):
    """Whether another process has locked the file with lockf() or flock(). PID files are locked with either."""
    with open(path, "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


# ---- names and files


@one_backend
def test_the_process_has_the_name_that_health_checks_look_for(daemon):
    assert Path(f"/proc/{daemon.pid}/comm").read_text().strip() == COMM
    for command in (["pgrep", "-x", COMM], ["pidof", "nvidia-persistenced"], ["pgrep", "-f", "nvidia-persistenced"]):
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        assert str(daemon.pid) in found, f"{command} does not find the daemon"


@one_backend
def test_the_socket_is_open_to_everybody(daemon):
    status = daemon.socket_path.stat()
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o777


@one_backend
def test_the_pid_file_has_the_pid_the_right_mode_and_a_lock(daemon):
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"
    assert stat.S_IMODE(daemon.pid_file.stat().st_mode) == 0o644
    assert is_locked(daemon.pid_file)


@one_backend
def test_a_strict_umask_does_not_change_any_mode(world):
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


@pytest.mark.holdfast_only("NVIDIA's daemon has no threads")
def test_a_dead_daemon_with_a_thread_in_the_driver_does_not_prevent_another_start(world):
    """After a kill -9 while a GPU hangs, the daemon's first thread has ended, but the other still has the lock."""
    world.simulate()
    world.site.runtime_directory.mkdir(parents=True)
    command = [sys.executable, "-c", DEAD_BUT_FOR_A_THREAD, str(world.site.pid_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as dead:
        assert dead.stdout.readline() == b"locked\n"
        wait_until(lambda: process.status_fields(dead.pid)["State"].startswith("Z"), "the first thread has ended")
        daemon = world.start()
        assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
        assert world.site.pid_in_file() == daemon.pid and is_locked(world.site.pid_file)
        dead.kill()


def test_sigterm_ends_the_daemon_in_time_and_removes_socket_and_pid_file(daemon):
    assert daemon.stop(timeout=5) == 0
    assert not daemon.socket_path.exists() and not daemon.pid_file.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sigint_and_sigterm_end_the_daemon_and_release_the_gpus(world, daemon, number):
    os.kill(daemon.pid, number)
    daemon.status = process.reap(daemon.pid, 5)
    assert daemon.status == 0
    assert [world.sim.gpu(address)["usage_count"] for address in world.gpus] == [0, 0]


@pytest.mark.holdfast_only("NVIDIA's daemon has no --keep-socket")
def test_with_keep_socket_the_path_exists_between_two_daemons(world):
    """Meanwhile, a container runtime can create containers that mount the socket."""
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


READ_LOCK = """
import fcntl, sys, time
file = open(sys.argv[1])
fcntl.lockf(file, fcntl.LOCK_SH)
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(600)
"""


@one_backend
@pytest.mark.holdfast_only("this was not tried with NVIDIA's daemon")
def test_a_user_who_locks_the_pid_file_of_a_killed_daemon_does_not_prevent_another_start(world):
    """Everybody may read the file, and therefore lock it for reading. A process that waits for the lock gets it when the
    daemon dies."""
    first = world.start()
    with subprocess.Popen([sys.executable, "-c", READ_LOCK, str(first.pid_file)], stdout=subprocess.PIPE,
                          user=process.NOBODY) as user:
        try:
            first.kill()
            assert user.stdout.readline() == b"locked\n"
            second = world.start("--verbose")
            assert second.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
            assert second.pid_file.read_text() == f"{second.pid}\n" and is_locked(second.pid_file)
            second.wait_for_log(f"pid {user.pid}, which is not a daemon, has {second.pid_file} locked")
        finally:
            user.kill()


@one_backend
@pytest.mark.holdfast_only("NVIDIA's daemon leaves them")
def test_a_longer_pid_in_the_old_pid_file_leaves_no_digits_behind(world):
    first = world.start()
    first.kill()
    first.pid_file.write_text("12345678901234567890\n")
    second = world.start()
    assert second.pid_file.read_text() == f"{second.pid}\n"


def test_a_second_daemon_refuses_to_start_and_names_the_pid_of_the_first(world, daemon):
    refused = world.run(*([] if world.site.other else ["--foreground"]))
    assert refused.returncode not in (0, 2)
    if not world.site.other:
        assert re.search(rf"\b{daemon.pid}\b", refused.stderr), refused.stderr
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"


# ---- log


def test_verbose_logs_each_step_and_each_device_in_hex(world, daemon):
    daemon.wait_for_log(r"Local RPC services initialized")
    daemon.wait_for_log(rf"Started \({daemon.pid}\)")
    for address in world.gpus:
        daemon.wait_for_log(rf"device {address} - registered")
        daemon.wait_for_log(rf"device {address} - persistence mode enabled\.")
    assert any(re.search("[a-f]", address) for address in world.gpus), "no address of the scenario has a hex letter"
    daemon.set(world.gpus[1], rpc.ENABLED)
    daemon.wait_for_log(rf"device {world.gpus[1]} - already in requested persistence mode\.")
    daemon.set(world.gpus[1], rpc.DISABLED)
    daemon.wait_for_log(rf"device {world.gpus[1]} - persistence mode disabled\.")
    daemon.stop()
    daemon.wait_for_log(rf"Shutdown \({daemon.pid}\)")


def test_without_verbose_only_start_and_end_are_logged(world):
    daemon = world.start()
    daemon.wait_for_log(rf"Started \({daemon.pid}\)")
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    daemon.stop()
    daemon.wait_for_log(rf"Shutdown \({daemon.pid}\)")
    assert len(daemon.log.all) == 2, daemon.log.text()


def test_without_verbose_a_gpu_that_fails_to_open_is_logged(world):
    world.simulate(gpus=2, gpu1="fail_opens = all")
    daemon = world.start()
    daemon.wait_for_log(rf"device {world.gpus[1]} - failed to open\.")


@one_backend
def test_in_the_background_the_daemon_logs_to_syslog_as_daemon_and_notice(world):
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
@pytest.mark.holdfast_only("NVIDIA's daemon has no --root")
def test_a_daemon_started_by_root_refuses_a_root_folder_from_the_environment(world):
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
def test_a_misspelt_option_exits_with_2_and_one_line_that_points_to_the_help(world, option):
    assert_one_line_and_pointer_to_help(world.run(option), option.split("=")[0])


@one_backend
@exit_status_2
def test_a_stray_argument_exits_with_2_and_one_line_that_points_to_the_help(world):
    assert_one_line_and_pointer_to_help(world.run("stray"), "stray")


@one_backend
@exit_status_2
@pytest.mark.parametrize("option", ["--user", "--group", "-u", "-g", "--nvidia-cfg-path"])
def test_an_option_without_its_argument_exits_with_2_and_one_line_that_points_to_the_help(world, option):
    assert_one_line_and_pointer_to_help(world.run(option), option)


@pytest.mark.holdfast_only("NVIDIA's daemon makes nodes through its library")
def test_make_nodes_accepts_only_a_gpu_or_uvm(world):
    assert_one_line_and_pointer_to_help(world.run("--make-nodes=card0"), "card0")
    for what in ("--make-nodes", "--make-nodes=0000:17:00.0", "--make-nodes=uvm"):
        done = world.run(what)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # the simulated driver already has its nodes


@one_backend
def test_a_wrong_option_leaves_nothing_behind(world):
    world.run("--bogus")
    assert not world.site.socket_path.exists() and not world.site.pid_file.exists()


@one_backend
@pytest.mark.parametrize("option, value", [("--user", "no-such-user"), ("--group", "no-such-group")])
def test_an_unknown_user_or_group_is_named_and_the_start_fails(world, option, value):
    done = world.run(option, value)
    assert done.returncode not in (0, 2)
    assert value in done.stderr, done.stderr
    if not world.site.other:
        assert "Success" not in done.stderr, "the message has an errno that no call has set"
    assert not world.site.pid_file.exists()


def test_the_options_of_nvidias_daemon_work_in_short_and_long_form(world):
    daemon = world.start_forking("-V", "-u", "root", "-g", "root", "--persistence-mode", "--no-uvm-persistence-mode")
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_with_no_persistence_mode_no_gpu_is_held_until_a_set(world):
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
def test_the_last_of_two_contradicting_options_counts(world, options, enabled):
    daemon = world.start(*options)
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, int(enabled))


# ---- users and groups


@pytest.mark.parametrize("options, group", [
    (("--user", "nobody"), process.NOBODY),
    (("--user", "nobody", "--group", "daemon"), 1),
    (("--group", "daemon", "--user", "nobody"), 1),
], ids=["primary group", "user, group", "group, user"])
def test_with_user_the_daemon_runs_and_holds_gpus_as_that_user_and_group(world, options, group):
    daemon = world.start(*options)
    uid, gid, groups = ids(daemon.pid)
    assert (uid, gid) == (process.NOBODY, group)
    if not world.site.other:  # NVIDIA's daemon keeps root's supplementary groups
        assert set(groups) <= {gid}
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_with_only_group_the_user_stays(world):
    daemon = world.start("--group", "daemon")
    assert ids(daemon.pid)[:2] == (0, 1)


def test_with_user_the_daemon_still_removes_socket_and_pid_file_at_its_end(world):
    daemon = world.start("--user", "nobody")
    assert daemon.stop() == 0
    assert not daemon.socket_path.exists() and not daemon.pid_file.exists()


def test_with_user_a_root_caller_may_still_set(world):
    daemon = world.start("--user", "nobody")
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS


# ---- into the background


def test_the_starting_command_returns_after_every_gpu_was_tried(world):
    world.simulate(gpus=3, defaults="lock = 0ms\ninit = 400ms\nteardown = 1ms\n")
    daemon = world.start_forking()
    assert [daemon.get(address) for address in world.gpus] == [(rpc.SUCCESS, rpc.ENABLED)] * 3
    assert Path(f"/proc/{daemon.pid}/comm").read_text().strip() == COMM
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"


@one_backend
def test_in_the_background_the_daemon_has_its_own_session_and_no_terminal(world):
    daemon = world.start_forking()
    session, terminal = Path(f"/proc/{daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()[3:5]
    assert int(session) != os.getsid(0) and terminal == "0"
    assert os.path.samefile(f"/proc/{daemon.pid}/cwd", "/")


@pytest.mark.holdfast_only("NVIDIA's daemon closes descriptors 0 to 2 and reuses them")
def test_in_the_background_the_standard_streams_are_dev_null(world):
    daemon = world.start_forking()
    assert all(os.path.samestat(os.stat(f"/proc/{daemon.pid}/fd/{number}"), os.stat("/dev/null"))
               for number in range(3))


@pytest.mark.holdfast_only("NVIDIA's daemon has no such option")
def test_in_the_foreground_the_daemon_does_not_fork(world):
    daemon = world.begin("--verbose")
    daemon.wait_ready()
    assert world.site.pid_in_file() == daemon.pid


@pytest.mark.holdfast_only("NVIDIA's daemon does not support NOTIFY_SOCKET")
def test_with_notify_socket_the_daemon_stays_in_the_foreground_without_the_option(world):
    daemon = world.begin(foreground=False)
    daemon.wait_ready()
    assert world.site.pid_in_file() == daemon.pid


@pytest.mark.holdfast_only("NVIDIA's daemon does not support NOTIFY_SOCKET")
def test_ready_is_followed_by_a_status_that_counts_the_gpus(world):
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
@pytest.mark.holdfast_only("NVIDIA's starting command does not print the reason")
@pytest.mark.parametrize("foreground", [False, True])
def test_a_runtime_directory_that_the_user_cannot_write_is_named_and_the_start_fails(world, foreground):
    directory = make_unwritable_runtime_directory(world)
    directory.chmod(0o755)
    done = world.run(*(["--foreground"] if foreground else []),
                     prefix=["setpriv", f"--reuid={process.NOBODY}", f"--regid={process.NOBODY}", "--clear-groups"])
    assert done.returncode not in (0, 2)
    assert str(directory) in done.stderr, done.stderr
    assert re.search(rf"\bnobody\b|\b{process.NOBODY}\b", done.stderr), done.stderr


def test_the_files_of_a_daemon_of_another_user_are_taken_over(world):
    """After a change of --user, the daemon can use the old directory, PID file and socket without manual cleanup."""
    directory = make_unwritable_runtime_directory(world)
    for path in (world.site.pid_file, world.site.socket_path):
        path.write_text("1234\n")
        path.chmod(0o644)
    daemon = world.start("--user", "nobody")
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    assert (directory.stat().st_uid, directory.stat().st_mode & 0o777) == (process.NOBODY, 0o755)
    assert world.site.pid_in_file() == daemon.pid


@one_backend
@pytest.mark.holdfast_only("NVIDIA's daemon follows the link")
def test_a_link_in_place_of_the_runtime_directory_does_not_change_its_targets_owner(world):
    target = world.base / "target"
    target.mkdir(mode=0o700)
    world.site.runtime_directory.symlink_to(target)
    done = world.run("--user", "nobody")
    assert done.returncode not in (0, 2)
    assert (target.stat().st_uid, target.stat().st_mode & 0o777) == (0, 0o700)


@one_backend
@pytest.mark.holdfast_only("NVIDIA's starting command does not print the reason")
def test_the_starting_command_prints_the_childs_error_and_fails(world):
    directory = world.site.runtime_directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.write_text("a file where the folder should be\n")
    done = world.run()
    assert done.returncode not in (0, 2)
    assert str(directory) in done.stderr, done.stderr


def test_a_missing_nvidia_cfg_library_is_named_and_the_start_fails(world):
    if world.backend != "nvidia-cfg":
        done = world.run("--backend", "nvidia-cfg", "--nvidia-cfg-path", "/nonexistent")
    else:
        done = world.run("--nvidia-cfg-path", "/nonexistent")
    assert done.returncode not in (0, 2)
    if not world.site.other:
        assert "/nonexistent" in done.stderr, done.stderr


@pytest.mark.holdfast_only("NVIDIA's daemon ignores failures")
def test_the_start_succeeds_even_if_no_gpu_can_be_held(world):
    world.simulate(gpus=2, defaults=QUICK + "fail_opens = all\n")
    daemon = world.start_forking()
    assert [daemon.get(address) for address in world.gpus] == [(rpc.SUCCESS, rpc.DISABLED)] * 2


@one_backend
def test_the_daemon_does_not_keep_the_pipes_of_the_starting_command(world):
    """output=$(nvidia-persistenced) must return. The harness reads both pipes to their end, with a time limit."""
    daemon = world.start_forking(timeout=10)
    ours = {target for target in process.open_files(os.getpid()).values() if target.startswith("pipe:")}
    assert not ours & set(process.open_files(daemon.pid).values())


@one_backend
def test_the_socket_credentials_are_those_of_the_daemon(daemon):
    """Clients get the daemon's pid from SO_PEERCRED, not the pid of the starting command, which has ended."""
    with daemon.connect() as connection:
        credentials = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    assert struct.unpack("3i", credentials)[0] == daemon.pid


@pytest.mark.holdfast_only("NVIDIA's daemon sets close-on-exec on no descriptor")
def test_every_descriptor_but_the_standard_ones_is_close_on_exec(daemon):
    """A program that inherited a GPU's descriptor would hold the GPU."""
    close_on_exec = 0o2000000
    flags = {}
    for info in Path(f"/proc/{daemon.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor was closed after the folder was read
            if int(info.name) > 2:
                flags[info.name] = int(re.search(r"^flags:\s+(\d+)", info.read_text(), re.MULTILINE)[1], 8)
    assert len(flags) > 4
    assert [number for number, value in flags.items() if not value & close_on_exec] == []
