# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast release: the daemon releases GPUs while a command runs, and holds them again whatever happens."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from conftest import BUILD
from harness import events, process, rpc
from harness.command import PROGRAM, Job, environment, holdfast, opened
from harness.events import wait_until
from harness.node import THREE, Row
from harness.terminal import CTRL_C, on_terminal
from harness.world import QUICK

A, B, C = THREE
LEASE_LOST = 123
DONE, NOT_HELD_AGAIN, NOT_RUN, NOT_EXECUTABLE, NOT_FOUND = 0, 124, 125, 126, 127

pytestmark = pytest.mark.holdfast_only("the command reads files below --root")


@pytest.fixture
def release(world):
    """Runs holdfast release in the test's world."""
    def run(*arguments, **how):
        return holdfast(world.site.root, "release", *arguments, HOLDFAST_SIM_SOCKET=str(world.sim.socket_path), **how)
    return run


@contextlib.contextmanager
def running(world, *arguments, script, **how):
    """Starts holdfast release with a shell that prints "up" and its pid, and then runs the script."""
    child = subprocess.Popen([PROGRAM, "--root", world.site.root, "release", *arguments, "--", "sh", "-c",
                              f"echo up $$; {script}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=environment(), **how)
    child.out = events.Lines("the command", child.stdout)
    child.errors = events.Lines("holdfast release", child.stderr)
    try:
        child.command_pid = int(child.out.wait_for(r"^up (\d+)$", timeout=30)[1])
        yield child
    finally:
        child.stdin.close()
        if child.poll() is None:
            child.kill()
        child.wait(timeout=10)


def reset(world, address):
    return [BUILD / "sim/holdfast-sim", "ctl", "--socket", world.sim.socket_path, "reset", "--gpu", address]


def is_held(world, *addresses):
    return all(world.sim.gpu(address)["initialised"] for address in addresses)


def wait_held(world):
    assert holdfast(world.site.root, "wait", "--timeout=30").status == 0


# ---- releasing GPUs -----------------------------------------------------------


@pytest.mark.parametrize("backend", ["kernel"])
def test_a_keeper_that_does_not_answer_is_named_and_no_problem_remains(world, daemon, release):
    first = world.gpus[0]
    keeper, = world.site.keepers()
    os.kill(keeper, signal.SIGSTOP)
    try:
        result = release("--gpu", first, "--", "true")
    finally:
        os.kill(keeper, signal.SIGCONT)
    assert result.status == NOT_RUN and "the driver" not in result.err, result.err
    assert f"GPU 0 {first}: the keeper did not drop its copy of the GPU: Connection timed out; try again" in result.err
    wait_held(world)
    checks = json.loads(holdfast(world.site.root, "doctor", "--json").out)["checks"]
    assert [check["verdict"] for check in checks if check["id"] == "initialisation"] == ["ok"]
    assert release("--gpu", first, "--", "true").status == DONE


def test_a_reset_that_fails_while_a_gpu_is_held_works_under_release(world, daemon, release):
    first, second = world.gpus
    refused = subprocess.run(reset(world, first), capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 1 and "use" in refused.stderr, refused.stderr
    result = release("--gpu", first, "--", *reset(world, first))
    assert result.status == DONE, result.err
    assert re.search(rf"^holdfast release: 1 GPU released in .*: {first}$", result.err, re.M)
    assert re.search(r"^holdfast release: 1 of 1 GPU held again after .*s$", result.err, re.M)
    assert is_held(world, first, second)
    assert (world.sim.gpu(first)["teardowns"], world.sim.gpu(second)["teardowns"]) == (1, 0)


def test_without_names_all_gpus_are_released_and_holdfast_gpus_lists_them(world, daemon, release):
    result = release("--", "sh", "-c", 'echo "$HOLDFAST_GPUS"')
    assert result.out == ",".join(world.gpus) + "\n"
    assert [world.sim.gpu(address)["teardowns"] for address in world.gpus] == [1, 1]
    assert "2 of 2 GPUs held again" in result.err


def test_the_command_runs_while_the_gpus_are_released(world, daemon):
    with running(world, script="read line; exit 7") as child:
        assert not is_held(world, world.gpus[0]) and not is_held(world, world.gpus[1])
        document = holdfast(world.site.root, "status", "--json").json("status")
        assert {gpu["state"] for gpu in document["gpus"]} == {"leased"}
        assert holdfast(world.site.root, "check").status == 1
        child.stdin.close()
        assert child.wait(timeout=30) == 7
    assert is_held(world, *world.gpus)


def test_a_gpu_that_was_not_held_is_not_held_afterwards(world, daemon, release):
    first, second = world.gpus
    assert holdfast(world.site.root, "set", "off", "--gpu", first).status == 0
    result = release("--", "true")
    assert result.status == DONE and "1 of 1 GPU held again" in result.err
    assert not is_held(world, first) and is_held(world, second)


# ---- the end of release --------------------------------------------------------


@pytest.mark.parametrize("command, status", [
    (["true"], DONE), (["sh", "-c", "exit 9"], 9), (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
    (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM), (["/nowhere/at-all"], NOT_FOUND), (["/"], NOT_EXECUTABLE),
])
def test_release_has_the_exit_status_of_the_command_and_the_gpus_are_held_again(world, daemon, release, command, status):
    result = release("--", *command)
    assert result.status == status
    assert "2 of 2 GPUs held again" in result.err and is_held(world, *world.gpus)
    if status >= NOT_EXECUTABLE and status <= NOT_FOUND:
        assert f"cannot run {command[0]}: " in result.err


@pytest.mark.parametrize("backend", ["kernel"])
def test_release_names_a_gpu_that_is_drained_meanwhile_and_does_not_wait_for_it(world, daemon, release):
    first, second = world.gpus
    world.sim.ctl("drain", gpu=second)
    start = time.monotonic()
    result = release("--", "true")
    assert time.monotonic() - start < 20, "release waits for the drained GPU"
    assert result.status == NOT_HELD_AGAIN
    assert "1 of 2 GPUs held again" in result.err
    assert re.search(rf"GPU 1 .*: failed: the GPU is drained and takes no new users.* nvidia-smi drain -p {second} -m 0",
                     result.err), result.err
    assert is_held(world, first) and not is_held(world, second)
    world.sim.ctl("drain", gpu=second, on=False)
    wait_held(world)


@pytest.mark.parametrize("backend", ["kernel"])
@pytest.mark.parametrize("version", ["550.163.01", "595.45.04"])
def test_a_gpu_is_released_at_once_while_another_hangs(world, version):
    """Before 550.40.07, the driver itself makes every teardown wait for all initialisations (tests/driver)."""
    world.simulate(gpus=2, defaults=QUICK + f"[driver]\nversion = {version}\n", gpu1="hang = open")
    daemon = world.begin("--verbose")
    daemon.wait_for_log(rf"device {world.gpus[0]} - persistence mode enabled\.")
    start = time.monotonic()
    with running(world, "--gpu", world.gpus[0], script=":") as child:
        took = time.monotonic() - start
        world.sim.ctl("hang", gpu=world.gpus[1], on=False)
        assert child.wait(timeout=30) == DONE
    assert took < 3
    assert world.sim.gpu(world.gpus[0])["teardowns"] == 1


def test_after_a_kill_of_release_the_gpus_are_held_again(world, daemon):
    with running(world, script="exec 1>&- 2>&-; read line") as child:
        assert not is_held(world, world.gpus[0])
        child.kill()
        child.wait(timeout=10)
        wait_held(world)
        assert is_held(world, *world.gpus)
        command_pid = child.command_pid
        assert not process.wait_gone(command_pid, 0), "the command ended too, perhaps in the middle of its work"
        child.stdin.close()
        process.reap(command_pid, 10)  # the orphan has become our child


def test_if_the_lease_is_lost_release_ends_when_another_daemon_serves_and_the_command_continues(world, daemon):
    with running(world, script="exec 1>&- 2>&-; read line") as child:
        daemon.kill()
        assert not process.wait_gone(child.pid, 0.5), "release ended before another daemon could hold the GPUs"
        world.start()
        child.errors.wait_for(rf"the lease is lost: .*COMMAND \(pid {child.command_pid}\) works on them", timeout=10)
        assert child.wait(timeout=10) == LEASE_LOST
        assert not process.wait_gone(child.command_pid, 0)
        child.stdin.close()
        process.reap(child.command_pid, 10)  # the orphan has become our child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_release_passes_signals_on_to_the_command(world, daemon, number):
    script = f"trap 'echo got; exit 3' {number.name.removeprefix('SIG')}; echo trapped; while :; do read line; done"
    with running(world, script=script) as child:
        child.out.wait_for("^trapped$", timeout=10)
        child.send_signal(number)
        child.out.wait_for("^got$", timeout=10)
        assert child.wait(timeout=30) == 3
    assert is_held(world, *world.gpus)


def test_ctrl_c_reaches_the_command_once_and_the_gpus_are_held_again(world, daemon):
    script = ("trap 'echo int; n=x$n; [ $n = x ] || exit 9' INT; echo ready; while [ -z \"$n\" ]; do read line; done; "
              "read line; exit 4")
    with on_terminal(world.site.root, "release", "--", "sh", "-c", script) as terminal:
        terminal.wait_for("ready", timeout=30)
        terminal.press(CTRL_C)
        terminal.wait_for("int", timeout=10)
        terminal.press(b"go on\n")
        assert terminal.wait() == 4
    assert is_held(world, *world.gpus)


def test_release_warns_if_the_daemon_ends_meanwhile(world, daemon):
    with running(world, "--timeout=1", script="read line; exit 0") as child:
        daemon.stop()
        child.stdin.close()
        assert child.wait(timeout=30) == NOT_HELD_AGAIN
        child.errors.wait_for("warning: the lease ended before COMMAND did", timeout=5)
        child.errors.wait_for("0 of 2 GPUs held again after .*no persistence daemon is running", timeout=5)


def test_a_gpu_that_fails_afterwards_is_named_with_its_reason(world, daemon, release):
    fail = [BUILD / "sim/holdfast-sim", "ctl", "--socket", world.sim.socket_path, "fail", "--gpu", world.gpus[1],
            "--count", "1000"]
    result = release("--timeout=1", "--", *fail)
    assert result.status == NOT_HELD_AGAIN
    assert "1 of 2 GPUs held again" in result.err
    assert re.search(rf"^  GPU 1 {world.gpus[1]}: (failed|opening): \w+", result.err, re.M)


def test_release_does_not_wait_for_a_gpu_that_is_removed_meanwhile(world, daemon, release):
    remove = [BUILD / "sim/holdfast-sim", "ctl", "--socket", world.sim.socket_path, "remove", "--gpu", world.gpus[1]]
    if world.backend != "kernel":
        remove = ["true"]
    result = release("--", *remove)
    assert result.status == DONE, result.err
    if world.backend == "kernel":
        assert "1 of 2 GPUs held again" in result.err and "no longer present" in result.err


@pytest.mark.parametrize("backend", ["kernel"])
def test_release_waits_for_a_gpu_that_is_back_even_if_the_daemon_has_not_heard_of_it(world):
    """COMMAND removes the GPU and adds it again, as nvidia-smi drain -r and -d do. The daemon gets neither uevents nor notices
    here, so it looks every 5 s."""
    world.simulate(gpus=2, defaults=QUICK + "[driver]\nversion = 570.86.15\n")
    world.block_uevents()
    daemon = world.start()
    second = world.gpus[1]
    with running(world, script="read line; exit 0") as child:
        world.sim.ctl("remove", gpu=second)
        wait_until(lambda: daemon.get(second)[0] == rpc.DEVICE_NOT_FOUND, "the daemon knows that it is gone", timeout=20)
        world.sim.ctl("add", gpu=second)
        child.stdin.close()
        assert child.wait(timeout=30) == DONE
        child.errors.wait_for("2 of 2 GPUs held again", timeout=5)
    assert is_held(world, *world.gpus)


@pytest.mark.parametrize("backend", ["kernel"])
def test_release_waits_for_a_gpu_that_the_daemon_has_to_close_and_open_again(world):
    """The uevent of a removal comes late: the GPU is back already, and the daemon is opening it."""
    world.simulate(gpus=1, defaults="lock = 1ms\ninit = 2s\nteardown = 10ms\n")
    daemon = world.start()
    address, = world.gpus
    with running(world, script="exit 0") as child:
        wait_until(lambda: world.sim.gpu(address)["teardowns"] == 1 and world.sim.gpu(address)["initialising"],
                   "the daemon opens the GPU again", timeout=20)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as kernel:
            kernel.sendto(f"remove@/devices/{address}\0ACTION=remove\0DEVPATH=/devices/{address}\0SUBSYSTEM=pci\0".encode(),
                          str(daemon.socket_path.parent / "uevents"))
        assert child.wait(timeout=30) == DONE
        child.errors.wait_for("1 of 1 GPU held again", timeout=5)
    assert is_held(world, address)


# ---- other processes that have a GPU open ---------------------------------------


def kernel_only(test):
    return pytest.mark.parametrize("backend", ["kernel"])(test)  # with nvidia-cfg, no process has a device node open


@kernel_only
def test_release_names_other_processes_and_releases_nothing(world, daemon, release):
    job = Job(world.site.root / "dev/nvidia1")
    try:
        result = release("--", "sh", "-c", "echo ran")
        assert (result.status, result.out) == (NOT_RUN, "")
        assert "other processes have the GPUs open; end them, or use --force:" in result.err
        assert f"  GPU 1 {world.gpus[1]}: cat (pid {job.pid}, user root" in result.err
        assert is_held(world, *world.gpus) and world.sim.gpu(world.gpus[1])["teardowns"] == 0
        assert release("--gpu=0", "--", "true").status == DONE, "the job has only the other GPU open"
    finally:
        job.end()


@kernel_only
def test_with_force_the_command_runs_despite_other_processes(world, daemon, release):
    job = Job(world.site.root / "dev/nvidia1")
    try:
        result = release("--force", "--", "sh", "-c", "echo ran")
    finally:
        job.end()
    assert (result.status, result.out) == (DONE, "ran\n")
    assert f"(pid {job.pid}, user root" in result.err and "2 of 2 GPUs held again" in result.err


def test_a_dry_run_prints_the_plan_and_does_nothing(world, daemon, release):
    result = release("--dry-run", "--gpu=1", "--", "touch", world.base / "ran")
    assert result.status == DONE and result.err == ""
    assert result.out == ("would release 1 GPU, by a lease that ends with this process:\n"
                          f"  GPU 1 {world.gpus[1]}: held, and would be held again\n"
                          f"would run: touch {world.base}/ran\n"
                          f"     with: HOLDFAST_GPUS={world.gpus[1]}\n")
    assert not (world.base / "ran").exists()
    assert world.sim.gpu(world.gpus[1])["teardowns"] == 0
    assert release("--dry-run").status == DONE


@kernel_only
def test_a_dry_run_refuses_what_release_would_refuse(world, daemon, release):
    job = Job(world.site.root / "dev/nvidia0")
    try:
        assert release("--dry-run", "--", "true").status == NOT_RUN
    finally:
        job.end()


def test_release_tells_an_ordinary_user_to_run_it_as_root(world, daemon):
    program = Path(shutil.copy(PROGRAM, world.base))
    if world.backend == "kernel":
        alone = holdfast(world.site.root, "release", "--", "true", program=program, user=process.NOBODY)
        assert alone.status == NOT_RUN and f"this is uid {process.NOBODY}: run it as root" in alone.err
    forced = holdfast(world.site.root, "release", "--force", "--", "true", program=program, user=process.NOBODY)
    assert forced.status == NOT_RUN and "the daemon refused: only root of the host" in forced.err
    assert is_held(world, *world.gpus)


# ---- NVIDIA's daemon, no daemon, and usage --------------------------------------


def test_with_nvidias_daemon_persistence_is_switched_off_and_on_again(three):
    daemon = three.start_daemon(modes={"0000:17:00": (0, 1), "0000:3a:00": (0, 0), "0000:ca:00": (0, 1)})
    result = holdfast(three.root, "release", "--", "sh", "-c", "exit 5")
    assert result.status == 5
    assert daemon.sets == [("0000:17:00", 0), ("0000:ca:00", 0), ("0000:17:00", 1), ("0000:ca:00", 1)]
    assert "has no leases" in result.err and "it stays off" in result.err
    assert "2 of 2 GPUs held again" in result.err


def test_if_the_device_node_of_a_gpu_is_unknown_the_command_needs_force(three):
    daemon = three.start_daemon(modes={"0000:17:00": (0, 1)})
    information = three.root / f"proc/driver/nvidia/gpus/{THREE[0]}/information"
    information.unlink()
    os.mkfifo(information)  # readers hang, as when a GPU hangs in its initialisation
    result = holdfast(three.root, "release", "--gpu", THREE[0], "--", "true", timeout=15)
    assert result.status == NOT_RUN and daemon.sets == []
    assert "clients may be missing" in result.err and "use --force" in result.err
    assert holdfast(three.root, "release", "--force", "--gpu", THREE[0], "--", "sh", "-c", "exit 5", timeout=15).status == 5


def test_if_nvidias_daemon_refuses_the_command_does_not_run(three):
    daemon = three.start_daemon(modes={"0000:17:00": (0, 1)}, set_status=3)
    result = holdfast(three.root, "release", "--gpu=0", "--", "sh", "-c", "echo ran")
    assert (result.status, result.out) == (NOT_RUN, "")
    assert f"GPU 0 {A}: persistence mode cannot be switched off: " in result.err
    assert daemon.sets == [("0000:17:00", 0), ("0000:17:00", 1)], "release does not undo a Set that may have had an effect"


def test_without_a_daemon_the_command_runs_if_no_process_has_a_gpu_open(three):
    result = holdfast(three.root, "release", "--", "sh", "-c", "echo $HOLDFAST_GPUS")
    assert (result.status, result.out) == (DONE, f"{A},{B},{C}\n")
    assert "there is nothing to release" in result.err
    with opened(three, 0):
        assert holdfast(three.root, "release", "--", "true").status == NOT_RUN


def test_a_daemon_that_does_not_answer_the_release_call_is_an_error(three):
    three.start_daemon(rows=[Row(A), Row(B), Row(C)], silent_to=(4,))
    result = holdfast(three.root, "release", "--timeout=0.2", "--", "sh", "-c", "echo ran")
    assert (result.status, result.out) == (NOT_RUN, "") and "did not answer within 0.2 s" in result.err


@pytest.mark.parametrize("arguments, words", [
    ([], "COMMAND is missing"),
    (["--"], "COMMAND is missing"),
    (["--forec", "true"], "unknown option '--forec'; did you mean '--force'?"),
    (["--timeout=x", "--", "true"], "'x' is not a number of seconds"),
    (["--all", "--gpu=0", "--", "true"], "--all and --gpu contradict each other"),
])
def test_wrong_usage_of_release_has_its_own_exit_status(node, arguments, words):
    result = holdfast(node.root, "release", *arguments)
    assert result.status == NOT_RUN and words in result.err and len(result.err.splitlines()) == 1


def test_release_numbers_gpus_as_the_driver_does_even_if_the_daemon_does_not_list_the_first_one_yet(three):
    def hear_of_it(daemon):
        daemon.rows = [Row(A, minor=0), Row(B, minor=1), Row(C, minor=2)]
    three.start_daemon(rows=[Row(B, minor=1), Row(C, minor=2)], after_list=hear_of_it)
    plan = holdfast(three.root, "release", "--dry-run", "--json", "--gpu=1").json("release")
    assert [gpu["address"] for gpu in plan["gpus"]] == [B]


def test_options_after_the_command_belong_to_the_command(three):
    result = holdfast(three.root, "release", "--force", "echo", "--gpu", "9", "--json", "--", "-x")
    assert (result.status, result.out) == (DONE, "--gpu 9 --json -- -x\n")


def test_the_option_all_is_the_same_as_no_names(three):
    plan = holdfast(three.root, "release", "--all", "--dry-run", "--json").json("release")
    assert len(plan["gpus"]) == 3


def test_release_json_is_only_for_the_plan_of_a_dry_run(three):
    three.start_daemon(rows=[Row(A, minor=0), Row(B, minor=1), Row(C, minor=2)])
    result = holdfast(three.root, "release", "--json", "--", "true")
    assert result.status == NOT_RUN and "--json needs --dry-run" in result.err
    plan = holdfast(three.root, "release", "--dry-run", "--json", "--gpu=1", "--", "a", b"\xff").json("release")
    assert (plan["by"], plan["command"]) == ("lease", ["a", "?"])
    assert plan["gpus"] == [{"index": 1, "address": B, "held": True}]


def test_release_does_not_run_without_the_gpu_or_without_driver_and_daemon(three, tmp_path):
    assert holdfast(three.root, "release", "--gpu=7", "--", "true").status == NOT_RUN
    result = holdfast(tmp_path, "release", "--", "true")
    assert result.status == NOT_RUN and "driver is not loaded" in result.err
