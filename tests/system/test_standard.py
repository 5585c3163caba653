# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Programs that start with standard input, output or error closed, or whose standard output goes to a full disk."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import process
from harness.command import PROGRAM, commands, environment, holdfast
from harness.events import wait_until
from harness.node import THREE, Row
from harness.simulator import Control

pytestmark = pytest.mark.holdfast_only("it tests our own programs")

TOP = Path(__file__).resolve().parent.parent.parent
OK, CRITICAL = 0, 2  # exit statuses of holdfast check

# The shell's syntax to close each descriptor.
CLOSE = {0: "<&-", 1: ">&-", 2: "2>&-"}
SETS = [(0,), (1,), (2,), (0, 1, 2)]

closed_sets = pytest.mark.parametrize("closed", SETS, ids=["input", "output", "errors", "all"])
kernel = pytest.mark.parametrize("backend", ["kernel"])  # only with this backend are GPUs open files

# Arguments with which each command succeeds while a daemon holds all GPUs.
WORDS = {"bench": ["--held-only", "--yes"], "query": ["--fields=pci.bus_id"],
         "release": ["--", "true"], "set": ["on"], "takeover": ["--help"]}


def closing(closed):
    """A prefix that starts a command with these descriptors closed."""
    return ["sh", "-c", f'exec "$@" {" ".join(CLOSE[fd] for fd in closed)}', "sh"]


def assert_standard(pid, closed):
    """Checks that the closed descriptors are /dev/null now, and that none of 0 to 2 is a GPU or a socket."""
    files = process.open_files(pid)
    assert [files.get(fd) for fd in closed] == ["/dev/null"] * len(closed), files
    assert not [target for fd, target in files.items() if fd < 3 and ("nvidia" in target or "socket:" in target)], files


@kernel
@closed_sets
def test_daemon_and_keeper_use_no_closed_standard_descriptor_for_a_gpu(world, closed):
    daemon = world.begin("--verbose", prefix=closing(closed))
    daemon.wait_ready()
    wait_until(lambda: world.site.kept() == ["nvidia0", "nvidia1"], "the keeper has both GPUs")
    assert daemon.open_nodes() == ["nvidia0", "nvidia1"]
    assert_standard(daemon.pid, closed)
    for pid in world.site.keepers():
        assert_standard(pid, (0, 1, 2))
    assert daemon.stop() == 0


@kernel
@closed_sets
def test_a_daemon_in_the_background_uses_no_closed_standard_descriptor(world, closed):
    daemon = world.start_forking(prefix=closing(closed))
    assert daemon.open_nodes() == ["nvidia0", "nvidia1"]
    assert_standard(daemon.pid, (0, 1, 2))
    assert daemon.stop() == 0


@kernel
def test_a_separate_keeper_uses_no_closed_standard_descriptor(world):
    world.simulate()
    (world.site.root / "run/holdfast").mkdir()
    command = [world.site.program, "--root", world.site.root, "--keeper"]
    with subprocess.Popen([*closing((0, 1, 2)), *command], env=world.site.environment) as keeper:
        daemon = world.start("--keeper-from", "socket")
        wait_until(lambda: world.site.kept() == ["nvidia0", "nvidia1"], "the keeper has both GPUs")
        assert_standard(keeper.pid, (0, 1, 2))
        assert daemon.stop() == 0
        keeper.terminate()
        assert keeper.wait(10) == 0


@closed_sets
def test_the_simulator_uses_no_closed_standard_descriptor(build, tmp_path, closed):
    program, path = build / "sim/holdfast-sim", tmp_path / "socket"
    clean = os.environ | process.SANITIZER_ENVIRONMENT
    control = Control()
    control.socket_path = path

    def answers():
        try:
            return len(control.status()["gpus"]) == 8
        except OSError:  # there is no socket yet, or nobody listens on it yet
            return False

    with subprocess.Popen([*closing(closed), program, "run", "--socket", path], env=clean, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as simulator:
        wait_until(answers, "the simulator answers", timeout=20)
        assert_standard(simulator.pid, closed)
        asked = subprocess.run([*closing(closed), program, "ctl", "--socket", path, "status"], env=clean,
                               capture_output=True, timeout=30, check=False)
        assert asked.returncode == 0, asked.stderr
        assert bool(asked.stdout) == (1 not in closed)
        simulator.send_signal(signal.SIGTERM)
        assert simulator.wait(10) == 0


@closed_sets
def test_with_closed_descriptors_the_generator_writes_the_same(tmp_path, closed):
    units, folder = tmp_path / "root/usr/lib/systemd/system", tmp_path / "root/etc/systemd/system"
    (folder / "holdfast.service.d").mkdir(parents=True)
    units.mkdir(parents=True)
    (units / "holdfast.service").write_text("[Unit]\nDocumentation=man:holdfast(1)\n[Service]\nType=notify\n")
    (folder / "holdfast.service.d/a.conf").write_text("[Service]\nType=forking\nUser=\nExecStartPost=/a\n")
    written = []
    for name, how in ("open", ()), ("closed", closed):
        (tmp_path / name).mkdir()
        subprocess.run([*closing(how), TOP / "packaging/systemd/holdfast-generator", *[tmp_path / name] * 3],
                       env=os.environ | {"HOLDFAST_ROOT": str(tmp_path / "root")}, timeout=30, check=True)
        written.append({path.name: path.read_text() for path in (tmp_path / name).glob("*/*")})
    assert len(written[0]) >= 4 and written[0] == written[1]


# ---- the command

@pytest.fixture
def run(world, daemon):
    """Runs the command in the test's world with its WORDS and these standard descriptors."""
    def run(name, closed=(), stdout=subprocess.PIPE):
        command = [*closing(closed), PROGRAM, "--root", world.site.root, name, *WORDS.get(name, [])]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True,
                              env=environment(HOLDFAST_ROOT=str(world.site.root)), timeout=60, check=False)
        assert "Sanitizer" not in done.stderr, done.stderr
        return done
    return run


@kernel
@pytest.mark.parametrize("name", commands())
def test_closed_descriptors_change_no_commands_result(world, run, name):
    plain = run(name)
    for closed in SETS:
        done = run(name, closed)
        assert done.returncode == plain.returncode, (closed, done.stderr)
        assert bool(done.stdout) == (bool(plain.stdout) and 1 not in closed), closed
        assert bool(done.stderr) == (bool(plain.stderr) and 2 not in closed), (closed, done.stderr)
    world.sim.wait_users(1, 1)


def test_check_with_closed_output_still_has_its_exit_status(three):
    """runit's `sv check` runs its check script with standard output closed."""
    prefix = closing((1,))
    command = [*prefix, PROGRAM, "--root", three.root, "check"]
    assert subprocess.run(command, env=environment(), timeout=30, check=False).returncode == CRITICAL
    three.start_daemon(rows=[Row(address, minor=minor) for minor, address in enumerate(THREE)])
    assert subprocess.run(command, env=environment(), timeout=30, check=False).returncode == OK


@kernel
@pytest.mark.parametrize("name", [name for name in commands() if name not in ("bench", "check", "release", "takeover")])
def test_a_command_fails_with_a_message_if_its_output_hits_a_full_disk(run, name):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run(name, stdout=full)
    assert done.returncode != 0
    assert done.stderr == "holdfast: cannot write the output: No space left on device\n"


@kernel
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--format=npd"], ["--expect=off"], ["--gpu=7"], ["--bogus"]])
def test_the_exit_status_of_check_is_its_verdict_even_with_a_full_disk(world, daemon, arguments):
    plain = holdfast(world.site.root, "check", *arguments)
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = holdfast(world.site.root, "check", *arguments, stdout=full)
    assert done.status == plain.status
    assert ("cannot write the output: No space left on device" in done.err) == bool(plain.out)


def test_the_other_programs_report_lost_output(build, tmp_path):
    for program, arguments in (("sim/holdfast-sim", ["--help"]), ("sim/holdfast-sim", ["--version"]),
                               ("src/daemon/nvidia-persistenced", ["--help"]),
                               ("src/daemon/nvidia-persistenced", ["--version"]),
                               ("src/daemon/nvidia-persistenced", ["--root", tmp_path, "--check-config"])):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([build / program, *arguments], stdout=full, stderr=subprocess.PIPE, text=True,
                                  env=environment(), timeout=30, check=False)
        assert done.returncode == 1, program
        assert done.stderr == f"{program.split('/')[-1]}: cannot write the output: No space left on device\n"
