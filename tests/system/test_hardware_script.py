# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""tests/hardware/run, the trial for machines with GPUs, on the simulated driver and stand-ins for nvidia-smi and NVML."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness import process, rpc
from harness.command import BUILD, TOP
from harness.machine import Machine

pytestmark = pytest.mark.parametrize("backend", ["kernel"])  # the script uses the daemon's default backend

SCRIPT = TOP / "tests/hardware/run"
DONE, FAILED, USAGE, NO_GPU = range(4)
PASS, FAIL, NOT_POSSIBLE = "PASS", "FAIL", "NOT-POSSIBLE"

BY_NUMBER = "the open nodes have the driver's device numbers"
AGAINST_NVIDIAS = "Get against NVIDIA's daemon"


class Trial:
    def __init__(self, completed, folder):
        self.status = completed.returncode
        self.said = completed.stdout + completed.stderr
        records = list(folder.glob("*.json"))
        self.record = json.loads(records[0].read_text()) if records else None
        self.page = records[0].with_suffix(".md").read_text() if records else None

    def checks(self, status):
        return [result["check"] for result in self.record["results"] if result["status"] == status]

    def evidence(self, check):
        return [result["evidence"] for result in self.record["results"] if result["check"] == check]


def trial(world, *arguments, root=None, build=BUILD, prefix=(), **extra):
    """Runs the script until it ends. extra: additional environment variables."""
    root = root or world.base / "root"
    output = world.base / "trial"
    environment = os.environ | process.SANITIZER_ENVIRONMENT | extra | {
        "HOLDFAST_ROOT": str(root), "HOLDFAST_STAND_IN_NVML": str(BUILD / "tests/nvml/libnvidia-ml.so.1"),
    }
    if world.sim:
        environment["HOLDFAST_SIM_SOCKET"] = str(world.sim.socket_path)
    done = subprocess.run([*prefix, SCRIPT, "--build", build, "--output", output, "--calls", "50",
                           "--nvidia-smi", TOP / "tests/hardware/stand-in/nvidia-smi",
                           "--nvml", BUILD / "tests/nvml/libnvidia-ml.so.1", *arguments], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False)
    return Trial(done, output)


def test_on_a_complete_machine_the_trial_tries_everything_and_changes_nothing(world):
    sim = world.simulate(gpu1="legacy = yes")
    before = [(gpu["settings"], gpu["legacy"]) for gpu in sim.status()["gpus"]]
    result = trial(world)
    assert result.status == DONE, result.said
    assert set(result.checks(NOT_POSSIBLE)) == {BY_NUMBER, AGAINST_NVIDIAS}
    assert result.checks(FAIL) == []
    assert [(gpu["settings"], gpu["legacy"]) for gpu in sim.status()["gpus"]] == before
    assert sim.users() == [0, 0]
    assert {record["detail"].split()[0] for record in sim.journal("control")} <= {"status", "journal"}
    assert not (world.base / "root/run/nvidia-persistenced").exists()


def test_the_record_has_the_findings_and_says_that_the_driver_is_simulated(world):
    world.simulate()
    result = trial(world)
    assert result.record["schema"] == "holdfast.hardware/1" and result.record["simulated"]
    assert result.record["facts"]["driver"] == "595.45.04"
    assert "On the simulated driver, not on hardware" in result.page
    assert any(command.startswith("holdfast doctor") for command in result.record["outputs"])
    assert result.record["figures"]["Get against an echo server"]["ours"]["calls"] == 250
    read = f"{world.gpus[0]}: power-limit 700 W, compute-mode default, ecc on, mig None"
    assert result.evidence("holdfast settings reads the same values as nvidia-smi")[0].startswith(read)
    for check in result.record["results"]:
        assert f"| {check['status']} | {check['check']} |" in result.page


def test_a_setting_that_differs_afterwards_is_a_failure(world):
    world.simulate()
    result = trial(world, HOLDFAST_STAND_IN_DRIFT=str(world.base / "drift"))
    assert result.status == FAILED
    assert result.checks(FAIL) == ["every setting that nvidia-smi reports is as before"]
    assert "current_power_limit: 700.00 W before, 710.00 W now" in result.said


def test_without_a_driver_the_trial_says_so_and_records_it(world):
    world.without_driver()
    result = trial(world)
    assert result.status == NO_GPU and result.checks(NOT_POSSIBLE) == ["a GPU can be tried"]
    assert "no NVIDIA driver is loaded" in result.said


# $1: the simulator's root. $2: the container's root, which gets fewer files. The rest is the command.
CONTAINER = """
set -e
whole=$1 container=$2
shift 2
mkdir -p "$container/run" "$container/dev" "$container/proc"
mount --bind "$whole/proc" "$container/proc"
for node in nvidia0 nvidiactl; do
    : >"$container/dev/$node"
    mount --bind "$whole/dev/$node" "$container/dev/$node"
done
exec "$@"
"""


def test_in_a_container_with_one_of_two_gpus_and_no_uvm_the_trial_tries_what_is_possible(world):
    world.simulate()
    container = world.base / "container"
    container.mkdir()
    prefix = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", CONTAINER, "sh", world.base / "root", container]
    result = trial(world, root=container, prefix=prefix)
    assert result.status == DONE, result.said
    assert result.evidence(f"GPU {world.gpus[1]}") == [f"no node {container}/dev/nvidia1: No such file or directory"]
    assert "there is no /dev/nvidia-uvm" in result.evidence("our daemon starts")
    assert "the stock nvidia-smi asks our daemon, and reports Enabled" in result.checks(PASS)


def test_the_trial_leaves_out_a_gpu_that_cannot_be_opened(world):
    world.simulate(gpu1="fail_opens = all\nfail_errno = EPERM")
    result = trial(world)
    assert "Operation not permitted" in result.evidence(f"GPU {world.gpus[1]}")[0]
    assert result.status == DONE, result.said
    assert "the daemon holds every GPU" in result.checks(PASS)


def test_the_trial_runs_at_the_real_paths_without_a_root(world):
    world.simulate()
    machine = Machine(world.base, with_driver=True)
    try:
        result = trial(world, root="/", prefix=machine.prefix)
    finally:
        machine.close()
    assert result.status == DONE, result.said
    hidden = "the same GPUs are registered with UVM as before"  # that machine has no /proc/driver/nvidia-uvm
    assert set(result.checks(NOT_POSSIBLE)) == {BY_NUMBER, AGAINST_NVIDIAS, hidden}
    assert not (machine.run / "nvidia-persistenced").exists()


def test_without_roots_capabilities_the_trial_says_what_it_could_not_do(world):
    world.simulate()
    prefix = ["setpriv", "--bounding-set", "-setuid,-setgid,-sys_ptrace,-setpcap,-mknod", "--inh-caps", "-all"]
    result = trial(world, prefix=prefix)
    assert result.status == DONE, result.said
    assert {"the user nobody may Get", "attack by nobody: 100 half records"} <= set(result.checks(NOT_POSSIBLE))
    assert "the daemon has each GPU's node open once, and no other node" in result.checks(PASS)


def test_a_running_daemon_is_not_disturbed_and_is_measured_beside_ours(world):
    daemon = world.start()
    result = trial(world)
    assert result.status == DONE, result.said
    assert any("belongs to another daemon" in evidence for evidence in result.evidence("our daemon starts"))
    assert AGAINST_NVIDIAS in result.checks(PASS)
    assert daemon.is_running and daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_the_trial_starts_nvidias_daemon_for_the_comparison_and_ends_it(world):
    world.simulate()
    peer = world.base / "peer"
    peer.write_text(f"""#!/bin/sh
[ "$1" != --help ] || exit 0
exec {BUILD}/src/daemon/nvidia-persistenced --root "$HOLDFAST_ROOT"
""")
    peer.chmod(0o755)
    result = trial(world, "--peer", peer)
    assert result.status == DONE, result.said
    assert set(result.record["figures"]["Get against NVIDIA"]) == {"echo server", "ours", "NVIDIA"}
    assert {AGAINST_NVIDIAS, "no process is left", "NVML asks our daemon, and reports enabled"} <= set(result.checks(PASS))
    assert not (world.base / "root/run/nvidia-persistenced").exists()


def test_a_daemon_that_does_not_start_is_a_failure_with_its_log(world):
    world.simulate()
    build = world.base / "build"
    for path in (BUILD / name for name in ("src/cli", "bench", "tests/hardware")):
        (build / path.relative_to(BUILD)).parent.mkdir(parents=True, exist_ok=True)
        (build / path.relative_to(BUILD)).symlink_to(path)
    broken = build / "src/daemon/nvidia-persistenced"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\necho no luck today >&2\nexit 1\n")
    broken.chmod(0o755)
    result = trial(world, build=build)
    assert result.status == FAILED and set(result.checks(FAIL)) == {"our daemon starts"}
    assert all("no luck today" in evidence for evidence in result.evidence("our daemon starts"))


def test_wrong_usage_is_reported_before_the_trial_begins(world):
    result = trial(world, build=Path("/nonexistent"))
    assert result.status == USAGE and "/nonexistent has no src/daemon/nvidia-persistenced" in result.said
    assert result.record is None
