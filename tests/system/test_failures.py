# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""GPUs that fail, hang or are not available: the daemon reports the reason, retries with growing pauses, and delays no other
GPU and no client."""

import errno
import signal

import pytest

from harness import holdfast_rpc, rpc
from harness.command import holdfast
from harness.events import wait_until
from harness.holdfast_rpc import FAILED, HELD
from harness.world import QUICK

pytestmark = pytest.mark.holdfast_only("NVIDIA's daemon tries once and reports no reason")

ENABLED, DISABLED = (rpc.SUCCESS, rpc.ENABLED), (rpc.SUCCESS, rpc.DISABLED)

kernel_only = pytest.mark.parametrize("backend", ["kernel"])


def listed(daemon):
    with holdfast_rpc.Connection(daemon.socket_path, 30) as connection:
        return connection.list()["gpus"]


def reason(daemon, number):
    return listed(daemon)[number]["error_text"]


def test_if_one_of_eight_gpus_fails_and_one_hangs_six_are_held_and_both_are_named(world):
    world.simulate(gpus=8, gpu2="fail_opens = all\nfail_status = NV_ERR_GPU_IS_LOST", gpu5="hang = open")
    daemon = world.start("--stuck-timeout=1")
    gpus = listed(daemon)
    assert [number for number, gpu in enumerate(gpus) if gpu["state"] == HELD] == [0, 1, 3, 4, 6, 7]
    assert gpus[2]["failures"] >= 1 and gpus[2]["error_text"]  # its state is failed, or opening during a retry
    assert (gpus[5]["stuck"], gpus[5]["wanted"]) == (1, 1)
    shown = holdfast(world.site.root, "status", "--json").json("status")
    bad = [gpu for gpu in shown["gpus"] if gpu["state"] != "held"]
    assert [gpu["address"] for gpu in bad] == [world.gpus[2], world.gpus[5]]
    text = holdfast(world.site.root, "status").out
    assert "6 of 8 GPUs held" in text
    assert all(address.upper() in text.upper() for address in (world.gpus[2], world.gpus[5]))
    assert gpus[2]["error_text"] in text and "stuck in the driver" in text


@kernel_only
def test_a_stop_does_not_wait_for_a_gpu_that_hangs_in_its_initialisation(world):
    """A normal exit would wait for the driver; a process that a signal ends does not wait."""
    world.simulate(gpus=2, gpu1="hang = open")
    daemon = world.start("--stuck-timeout=1")
    assert daemon.stop(timeout=8) == -signal.SIGTERM
    assert not daemon.socket_path.exists() and not daemon.pid_file.exists()
    # The simulator may learn of the last close a moment later.
    wait_until(lambda: world.sim.journal("close-deferred") and not world.sim.gpu(world.gpus[0])["initialised"],
               "one close is deferred, and the other GPU is torn down")


@kernel_only
def test_a_failures_reason_has_the_errno_the_drivers_status_and_what_to_do(world):
    world.simulate(gpus=1, gpu0="fail_opens = all\nfail_status = NV_ERR_GPU_IS_LOST")
    daemon = world.start()
    assert listed(daemon)[0]["error_number"] == 5  # EIO
    for part in ("/dev/nvidia0", "Input/output error", "NV_ERR_GPU_IS_LOST", "kernel log"):
        assert part in reason(daemon, 0)


@kernel_only
@pytest.mark.parametrize("keys, words", [
    ("excluded = yes", "NVreg_ExcludedGpus"),
    ("lost = surprise", "unbound or removed"),
])
def test_the_reason_says_why_a_gpu_is_not_available(world, keys, words):
    world.simulate(gpus=2, gpu1=keys)
    daemon = world.start()
    assert daemon.get(world.gpus[0]) == ENABLED
    assert words in reason(daemon, 1)


@kernel_only
@pytest.mark.parametrize("version", ["535.261.03", "595.45.04"])
def test_a_drained_gpu_is_distinguished_from_a_broken_one(world, version):
    world.simulate(gpus=2, defaults=QUICK + f"[driver]\nversion = {version}\n", gpu1="drain = yes")
    daemon = world.start("--verbose")
    daemon.wait_for_log(f"device {world.gpus[1]} - the GPU is drained and takes no new users: .*"
                        f"nvidia-smi drain -p {world.gpus[1]} -m 0")
    assert listed(daemon)[1]["error_number"] == errno.EBUSY
    world.sim.ctl("drain", gpu=world.gpus[1], on=False)
    daemon.wait_for_log(rf"device {world.gpus[1]} - persistence mode enabled\.", timeout=30)


@kernel_only
def test_the_daemon_asks_for_the_reason_after_a_blocking_open_has_failed(world):
    world.simulate(gpus=1, defaults=QUICK + "[driver]\nversion = 535.261.03\n",
                   gpu0="fail_opens = all\nfail_status = NV_ERR_GPU_IS_LOST")
    daemon = world.start("--verbose")
    daemon.wait_for_log(f"device {world.gpus[0]} - cannot open .*NV_ERR_GPU_IS_LOST")
    assert listed(daemon)[0]["error_number"] == errno.EIO


def test_pauses_between_retries_grow(world):
    world.simulate(gpus=1, gpu0="fail_opens = all")
    world.start()
    wait_until(lambda: len(world.sim.journal("initialisation-failed")) >= 3, "three opens have failed", timeout=20)
    times = [record["t_usec"] for record in world.sim.journal("initialisation-failed")][:3]
    assert times[2] - times[1] > 1.5 * (times[1] - times[0])


def test_a_gpu_that_recovers_is_held_and_has_no_reason_any_more(world):
    world.simulate(gpus=1, gpu0="fail_opens = all")
    daemon = world.start("--verbose")
    assert listed(daemon)[0]["state"] == FAILED
    world.sim.ctl("fail", gpu=world.gpus[0], count=0)
    daemon.wait_for_log(rf"device {world.gpus[0]} - persistence mode enabled\.", timeout=30)
    gpu = listed(daemon)[0]
    assert (gpu["state"], gpu["error_text"]) == (HELD, "") and gpu["failures"] >= 1


def test_the_same_failure_is_logged_once(world):
    world.simulate(gpus=1, gpu0="fail_opens = all")
    daemon = world.start("--verbose")
    wait_until(lambda: len(world.sim.journal("initialisation-failed")) >= 3, "three opens have failed", timeout=20)
    assert len([line for line in daemon.log.all if "failed to open" in line]) == 1


def test_a_set_of_a_gpu_that_is_stuck_is_answered_at_once(world):
    world.simulate(gpus=2, gpu1="hang = open")
    daemon = world.start("--stuck-timeout=1")
    assert daemon.set(world.gpus[1], rpc.ENABLED, timeout=5) == rpc.DRIVER
    assert daemon.set(world.gpus[1], rpc.DISABLED, timeout=5) == rpc.DRIVER
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS


def test_a_gpu_that_hung_is_held_once_the_driver_answers(world):
    world.simulate(gpus=2, gpu1="hang = open")
    daemon = world.start("--stuck-timeout=1", "--verbose")
    daemon.wait_for_log(rf"device {world.gpus[1]} - the driver has not answered for 1 s")
    world.sim.ctl("hang", gpu=world.gpus[1], on=False)
    daemon.wait_for_log(rf"device {world.gpus[1]} - persistence mode enabled\.")
    assert (daemon.get(world.gpus[1]), listed(daemon)[1]["stuck"]) == (ENABLED, 0)


def test_a_gpu_that_hangs_in_its_close_delays_no_client_and_no_held_gpu(world):
    """The hanging close has the driver's lock, so until it ends no other GPU can be initialised or torn down."""
    world.simulate(gpus=3, gpu1="hang = close")
    daemon = world.start("--stuck-timeout=1")
    with daemon.connect(timeout=30) as waiting:
        waiting.send(rpc.record(rpc.call_message(1, 1, rpc.device(world.gpus[1]) + rpc.words(rpc.DISABLED))))
        wait_until(lambda: world.gpus[1] in [record["gpu"] for record in world.sim.journal("close")], "the close has begun")
        assert daemon.set(world.gpus[0], rpc.DISABLED, timeout=5) == rpc.DRIVER
        assert daemon.get(world.gpus[2]) == ENABLED and world.sim.gpu(world.gpus[2])["usage_count"] == 1
        world.sim.ctl("hang", gpu=world.gpus[1], on=False, which="close")
        wait_until(lambda: daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS, "GPU 0 is held again")


def test_a_gpu_with_confidential_computing_stays_held_during_a_job(world):
    """Such a GPU initialises only once after a reset, so a second initialisation would fail."""
    world.simulate(gpus=1, defaults=QUICK + "confidential = yes\n")
    daemon = world.start()
    with world.sim.open_gpu(world.gpus[0]):
        pass
    assert daemon.get(world.gpus[0]) == ENABLED
    assert world.sim.gpu(world.gpus[0])["initialisations"] == 1
