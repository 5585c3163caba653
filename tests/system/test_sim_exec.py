# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast-sim exec runs a command on a node with simulated GPUs at the real paths."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile

import pytest

from harness import process
from harness.world import missing_for

pytestmark = pytest.mark.holdfast_only("it tests the simulator")

MISUSE, NOT_RUNNABLE, NOT_FOUND = 2, 126, 127
DAEMON_AND_STATUS = """
"$1" --foreground &
daemon=$!
"$2" wait --timeout 30 >/dev/null && "$2" status --json
kill $daemon && wait $daemon
"""

# Runs a daemon and keeps GPU 0 open until standard input ends. $3: the folder for what `holdfast` reports on this node.
BUSY = """
"$1" --foreground &
daemon=$!
"$2" wait --timeout 30 >/dev/null
exec 7</dev/nvidia0
"$2" clients --json 7<&- >"$3/clients"
"$2" doctor --json 7<&- >"$3/doctor" || true
echo $$ $daemon
read line || true
exec 7<&-
kill $daemon && wait $daemon
"""


@pytest.fixture
def program(build):
    lacking = missing_for("kernel")
    if lacking:
        pytest.skip(lacking)
    return build / "sim/holdfast-sim"


@pytest.fixture
def environment():
    """An environment with its own TMPDIR, in which the commands must leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="holdfast-exec-") as folder:
        os.chmod(folder, 0o1777)
        yield os.environ | process.SANITIZER_BEHIND_PRELOAD | {"TMPDIR": folder}
        assert not os.listdir(folder)


@pytest.fixture
def node(program, environment):
    """Runs a command with holdfast-sim exec. Returns the finished process."""
    def node(*command, options=(), **how):
        return subprocess.run([program, "exec", *options, "--", *command], env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, check=False, **how)
    return node


def python(node, code, **how):
    """Runs Python code on a node, and decodes the JSON that it prints."""
    done = node(sys.executable, "-I", "-c", code, **how)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


STAT = """
import json, os, re
uvm = re.search(r"^ *([0-9]+) nvidia-uvm$", open("/proc/devices").read(), re.M)[1]
told = {name: [os.stat("/dev/" + name).st_mode, os.stat("/dev/" + name).st_rdev] for name in os.listdir("/dev")
        if name.startswith("nvidia")}
fd = os.open("/dev/nvidia0", os.O_RDWR)
assert os.fstat(fd).st_rdev == os.lstat("/dev/nvidia0").st_rdev == os.stat("/dev/nvidia0").st_rdev
print(json.dumps([int(uvm), told]))
"""


def test_exec_shows_the_nodes_as_the_drivers_devices_only_to_its_command(node):
    uvm, told = python(node, STAT, options=["--gpus=2"])
    assert sorted(told) == ["nvidia-uvm", "nvidia0", "nvidia1", "nvidiactl"]
    assert all(stat.S_ISCHR(mode) for mode, _ in told.values())
    assert {name: (os.major(device), os.minor(device)) for name, (_, device) in told.items()} == {
        "nvidia-uvm": (uvm, 0), "nvidia0": (195, 0), "nvidia1": (195, 1), "nvidiactl": (195, 255)}
    assert not os.path.exists("/dev/nvidia0")


def test_statx_also_shows_the_nodes_as_the_drivers_devices(node):
    done = node("stat", "--format=%F %t:%T", "/dev/nvidiactl", "/dev/null")
    assert done.stdout.splitlines() == ["character special file c3:ff", "character special file 1:3"]


def test_the_machines_other_files_are_visible_in_exec(node):
    lists = "import json, os; print(json.dumps({folder: os.listdir(folder) for folder in ('/dev', '/run', '/dev/shm')}))"
    told = python(node, lists)
    for folder in "/dev", "/run":
        here = {name for name in os.listdir(folder) if not name.startswith(("nvidia", "holdfast"))}
        assert here <= set(told[folder])
    assert node("sh", "-c", "echo lost >/dev/null && test -z \"$(cat /dev/null)\"").returncode == 0


def test_daemon_and_command_work_at_their_default_paths(node, build):
    done = node("sh", "-ec", DAEMON_AND_STATUS, "sh", build / "src/daemon/nvidia-persistenced", build / "src/cli/holdfast",
                options=["--gpus=3"])
    assert done.returncode == 0, done.stderr
    gpus = json.loads(done.stdout)["gpus"]
    assert [gpu["state"] for gpu in gpus] == ["held"] * 3


def test_exec_uses_the_given_scenario(node, tmp_path):
    scenario = tmp_path / "scenario.ini"
    scenario.write_text("[driver]\nversion = 550.163.01\n")
    done = node("cat", "/proc/driver/nvidia/version", options=[f"--scenario={scenario}"])
    assert "550.163.01" in done.stdout


@pytest.mark.parametrize("backend", ["kernel"])
def test_commands_on_one_simulator_have_the_same_run_folder_and_those_on_another_have_their_own(world, node, build):
    world.simulate()
    root = world.site.root
    node("touch", "/run/nvidia-persistenced/left", options=["--root", root])
    assert node("ls", "/run/nvidia-persistenced", options=["--root", root]).stdout == "left\n"
    assert node("ls", "/run/nvidia-persistenced").stdout == ""
    (root / "run/nvidia-persistenced/left").unlink()
    journal = node(build / "sim/holdfast-sim", "ctl", "status", "--json", options=["--root", root])
    assert [gpu["address"] for gpu in json.loads(journal.stdout)["gpus"]] == world.gpus


def test_two_nodes_do_not_see_each_others_processes_and_sockets(program, environment, build, tmp_path):
    command = [program, "exec", "--gpus=1", "--", "sh", "-ec", BUSY, "sh", build / "src/daemon/nvidia-persistenced",
               build / "src/cli/holdfast", tmp_path]
    how = {"env": environment, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **how) as first:
        others = first.stdout.readline().split()
        with subprocess.Popen(command, **how) as second:
            pids = {int(word) for word in second.stdout.readline().split()}
            assert second.communicate()[0] == "" and second.returncode == 0
        assert first.communicate()[0] == "" and first.returncode == 0
    clients, doctor = (json.loads((tmp_path / name).read_text()) for name in ("clients", "doctor"))
    assert {client["pid"] for client in clients["clients"]} == pids
    checks = {check["id"]: check for check in doctor["checks"]}
    assert checks["socket-inode"]["verdict"] == "ok"
    assert checks["reset"]["evidence"] and not set(others) & set(re.findall(r"\d+", json.dumps(doctor)))


def test_exec_has_the_exit_status_of_its_command(node):
    assert node("sh", "-c", "exit 7").returncode == 7
    assert node("sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL
    missing = node("/nowhere/command")
    assert missing.returncode == NOT_FOUND and "cannot run /nowhere/command: No such file" in missing.stderr
    assert node("/etc/passwd").returncode == NOT_RUNNABLE


def test_exec_passes_a_signal_on_and_leaves_nothing_behind(program, environment):
    script = "trap 'echo told; exit 9' TERM; echo begun; while :; do sleep 0.1; done"
    with subprocess.Popen([program, "exec", "--gpus=1", "--", "sh", "-c", script], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout.readline() == "begun\n"
        child.terminate()
        assert child.stdout.read() == "told\n"
        assert child.wait(20) == 9


def test_a_daemon_that_the_command_leaves_behind_is_ended(node, build):
    """Its keeper ends too, since their GPUs disappear. So does a grandchild in its own session that ignores SIGTERM."""
    script = f"{build}/src/daemon/nvidia-persistenced --verbose >&2 && cat /run/nvidia-persistenced/*.pid; " \
             "(setsid sh -c 'trap : TERM; sleep 1000 & echo $$ $!; wait; wait' &) | { read -r pids; echo $pids; }"
    done = node("sh", "-c", script)
    pids = [int(word) for word in done.stdout.split()]
    assert done.returncode == 0 and len(pids) == 3, done
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


def test_a_missing_library_is_reported_with_its_path(program, environment, tmp_path):
    alone = shutil.copy(program, tmp_path / "holdfast-sim")
    done = subprocess.run([alone, "exec", "--", "true"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and f"there is neither {tmp_path}/exec/libholdfast-sim-stat.so nor /" in done.stderr


def test_the_simulator_of_a_killed_exec_ends(program, environment):
    with subprocess.Popen([program, "exec", "--", "sh", "-c", "echo begun; read line"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout.readline() == "begun\n"
        children = process.children(child.pid)
        assert len(children) == 2
        child.kill()
    for pid in children:  # the command ends because its standard input ends
        assert process.wait_gone(pid, 20)
        process.kill_and_reap(pid)
    for folder in os.listdir(environment["TMPDIR"]):
        shutil.rmtree(os.path.join(environment["TMPDIR"], folder))


@pytest.mark.parametrize("words, told", [
    ([], "a command is missing"),
    (["--gpus=1"], "a command is missing"),
    (["--root=/tmp", "--gpus=1", "--", "true"], "the simulator of --root already has its GPUs"),
    (["--nonsense", "--", "true"], "try holdfast-sim exec --help"),
    (["--gpus=1000", "--", "true"], "--gpus"),
])
def test_wrong_usage_of_exec_is_reported(program, words, told):
    done = subprocess.run([program, "exec", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == MISUSE and told in done.stderr


def test_exec_that_cannot_make_its_node_reports_the_reason_and_runs_nothing(node, tmp_path):
    no_simulator = node("echo", "run", options=["--root", tmp_path])
    assert no_simulator.returncode == 1 and f"no simulator serves {tmp_path}" in no_simulator.stderr
    no_scenario = node("echo", "run", options=["--scenario=/nowhere.ini"])
    assert no_scenario.returncode == 1 and "cannot read the scenario /nowhere.ini" in no_scenario.stderr
    assert no_simulator.stdout == no_scenario.stdout == ""


def test_without_root_exec_uses_a_user_namespace_or_says_to_run_it_as_root(program, node):
    """The result depends on the machine: on the mode of /dev/fuse, and on whether users may create user namespaces."""
    done = node("id", "-u", user=65534, group=65534, extra_groups=[], cwd="/")
    if done.returncode == 0:
        assert done.stdout == "0\n"
    else:
        assert done.stderr.count("\n") == 1 and "run it as root" in done.stderr
