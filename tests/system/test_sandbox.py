# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The daemon's functions in its sandbox: the filter of system calls, and Landlock.

Builds with sanitizers have no sandbox, so these tests use a release build (make release): build-release/, or
HOLDFAST_RELEASE_BUILD.
"""

import ctypes
import os
import signal
import tempfile
from pathlib import Path

import pytest

from harness import process, rpc
from harness.events import wait_until

TOP = Path(__file__).resolve().parent.parent.parent
RELEASE = Path(os.environ.get("HOLDFAST_RELEASE_BUILD", TOP / "build-release")).resolve()

FILTERED, UNFILTERED = "2", "0"  # "Seccomp:" in proc_pid_status(5)

pytestmark = pytest.mark.holdfast_only("NVIDIA's daemon has no sandbox")


@pytest.fixture(scope="session")
def build():
    if not (RELEASE / "src/daemon/nvidia-persistenced").exists():
        pytest.skip(f"there is no release build in {RELEASE}: make release, or HOLDFAST_RELEASE_BUILD")
    return RELEASE


def seccomp_of_threads(pid):
    return {fields["Seccomp"] for fields in process.thread_fields(pid)}


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_every_thread_is_filtered(world, user):
    world.simulate(gpus=2, gpu1="hang = open")
    daemon = world.begin("--verbose", "--user", user)
    daemon.wait_for_log("System calls are filtered")
    daemon.wait_for_log(rf"device {world.gpus[0]} - persistence mode enabled\.")
    assert len(list(Path(f"/proc/{daemon.pid}/task").iterdir())) > 1, "there is no thread for the GPU that hangs"
    assert seccomp_of_threads(daemon.pid) == {FILTERED}
    world.sim.ctl("hang", gpu=world.gpus[1], on=False)
    daemon.wait_ready()


def test_with_no_sandbox_nothing_is_filtered(world):
    daemon = world.start("--no-sandbox", "--verbose")
    assert seccomp_of_threads(daemon.pid) == {UNFILTERED}
    assert not daemon.log.has("System calls are filtered")
    assert not daemon.log.has("Landlock")


@pytest.fixture
def landlock():
    """This kernel's version of Landlock."""
    version = ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)  # landlock_create_ruleset(2)
    if version < 1:
        pytest.skip("this kernel has no Landlock")
    return version


@pytest.fixture
def elsewhere():
    """A folder that the daemon does not need."""
    with tempfile.TemporaryDirectory(prefix="holdfast-elsewhere-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("backend", ["kernel"])  # with NVIDIA's library, the daemon may read everything
@pytest.mark.parametrize("options", [(), ("--no-sandbox",)], ids=["limited", "not limited"])
def test_as_root_the_daemon_cannot_read_files_outside_its_folders(world, elsewhere, landlock, options):
    """A reload tries to read a file elsewhere, to which the configuration has become a symbolic link."""
    secret, config = elsewhere / "secret", world.base / "conf/holdfast.conf"
    secret.write_text("[gpu *]\npersistence = off\n")
    secret.chmod(0o600)
    config.parent.mkdir()
    config.write_text("[gpu *]\npersistence = on\n")
    daemon = world.start("--verbose", "--config", str(config), *options)
    config.unlink()
    config.symlink_to(secret)
    os.kill(daemon.pid, signal.SIGHUP)
    if options:
        daemon.wait_for_log("Configuration read again")
        return
    daemon.wait_for_log(rf"Files are limited by Landlock \(version {landlock}\)")
    daemon.wait_for_log(rf"cannot read {config}: Permission denied")
    daemon.wait_for_log("the current configuration stays in effect; if the file is now in another folder")
    config.unlink()
    config.write_text("[gpu *]\npersistence = off\n")
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("Configuration read again")
    wait_until(lambda: daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.DISABLED), "the GPU is released")


def test_in_the_sandbox_gpus_are_held_released_and_held_again(world):
    daemon = world.start("--verbose")
    for _ in range(3):
        assert daemon.set_only(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
        assert daemon.set_only(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)
    assert daemon.stop() == 0
    assert [gpu["usage_count"] for gpu in world.sim.status()["gpus"]] == [0, 0]
    assert not daemon.socket_path.exists() and not daemon.pid_file.exists()


def test_in_the_sandbox_a_gpu_that_failed_is_retried(world):
    world.simulate(gpus=2, gpu1="fail_opens = 2")
    daemon = world.start("--verbose")
    daemon.wait_for_log(rf"device {world.gpus[1]} - persistence mode enabled\.", timeout=30)


def test_in_the_sandbox_uvm_persistence_works(world):
    daemon = world.start("--verbose", "--uvm-persistence-mode")
    wait_until(lambda: all(gpu["uvm"] for gpu in world.sim.status()["gpus"]), "both GPUs are registered with UVM")
    assert daemon.stop() == 0


def test_in_the_sandbox_callers_are_distinguished(world):
    daemon = world.start("--admin-group", "daemon")
    assert daemon.call_as_nobody("set_only", world.gpus[0], rpc.DISABLED) == str(rpc.PERMISSIONS)
    assert daemon.set_only(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS


def test_in_the_sandbox_a_reload_can_look_up_the_name_of_a_group(world):
    config = world.base / "holdfast.conf"
    config.write_text("[gpu *]\npersistence = on\n")
    daemon = world.start("--config", str(config))
    config.write_text("[daemon]\nadmin-group = daemon\n[gpu *]\npersistence = off\n")
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("Configuration read again")
    wait_until(lambda: daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.DISABLED), "the GPU is released")


def test_in_the_sandbox_a_daemon_in_the_background_reaches_syslog(world):
    daemon = world.start_forking("--verbose")
    assert seccomp_of_threads(daemon.pid) == {FILTERED}
    daemon.stop()
    daemon.wait_for_log(rf"Shutdown \({daemon.pid}\)$")
