# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""GPU memory that is a NUMA node: the daemon prepares the driver for it before the first open, onlines and offlines it, and
leaves it alone if the kernel does that."""

import collections

import pytest

from harness import holdfast_rpc, rpc
from harness.events import wait_until
from harness.world import QUICK

ENABLED, DISABLED = (rpc.SUCCESS, rpc.ENABLED), (rpc.SUCCESS, rpc.DISABLED)
OFFLINE, ONLINE = 0, 1
OFF, ON = 0, 1  # values of the legacy flag

kernel_only = pytest.mark.parametrize("backend", ["kernel"])
without_blocks = pytest.mark.holdfast_only("NVIDIA's daemon fails in another way if /sys has no memory blocks")
writes_to_sys = pytest.mark.holdfast_only("NVIDIA's daemon writes to the machine's real /sys")
# The simulated memory of a GPU is 96 GiB, in blocks of 128 MiB.
POWER9 = QUICK + "numa = offline\n[driver]\nmemory_probe = yes\n"
N_BLOCKS = 768
DRIVER_OFFLINE, DRIVER_ONLINE = 1, 3  # enum nv_numa_status

COHERENT = QUICK + "coherent = yes\nnuma = offline\nnuma_auto_online = yes\n"


def set_numa(daemon, address, status):
    with daemon.connect(timeout=60) as connection:
        return connection.set_numa(address, status)


@kernel_only
@pytest.mark.holdfast_only("NVIDIA's library passes the block size to the driver")
def test_a_coherent_gpu_is_held_because_the_driver_first_gets_the_block_size(world):
    world.simulate(gpus=2, defaults=COHERENT)
    daemon = world.start()
    assert [daemon.get(address) for address in world.gpus] == [ENABLED] * 2
    assert not world.sim.journal("open-failed")


@kernel_only
@pytest.mark.holdfast_only("NVIDIA's library passes the block size to the driver")
def test_memory_that_the_kernel_onlines_is_left_to_the_kernel(world):
    world.simulate(gpus=1, defaults=COHERENT)
    daemon = world.start()
    assert set_numa(daemon, world.gpus[0], ONLINE) == rpc.SUCCESS
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS


@kernel_only
@without_blocks
def test_if_memory_cannot_be_onlined_the_answer_is_numa_failure_and_the_mode_is_restored(world):
    """User space must online the memory, but this /sys has no memory blocks. The daemon undoes all earlier steps."""
    world.simulate(gpus=1, defaults=QUICK + "coherent = yes\nnuma = offline\n")
    daemon = world.start("--no-persistence-mode", "--verbose")
    assert daemon.set(world.gpus[0], rpc.ENABLED, timeout=20) == rpc.NUMA_FAILURE
    assert daemon.get(world.gpus[0]) == DISABLED
    daemon.wait_for_log(r"NUMA memory not onlined\. .+")


@kernel_only
@without_blocks
def test_if_memory_cannot_be_offlined_the_answer_is_numa_failure_and_the_gpu_stays_held(world):
    """The driver refuses to offline the memory while more than one user has the GPU open."""
    world.simulate(gpus=1, defaults=QUICK + "numa = online\n")
    daemon = world.start("--verbose")
    with world.sim.open_gpu(world.gpus[0]):
        assert daemon.set(world.gpus[0], rpc.DISABLED, timeout=20) == rpc.NUMA_FAILURE
        assert daemon.get(world.gpus[0]) == ENABLED
        daemon.wait_for_log(r"failed to close\. .*others have the GPU open")
    assert daemon.set(world.gpus[0], rpc.DISABLED, timeout=20) == rpc.SUCCESS
    assert world.sim.gpu(world.gpus[0])["numa"]["status"] == 1  # offline
    order = [record["event"] for record in world.sim.journal("numa", "torn-down")]
    assert order[-3:] == ["numa", "numa", "torn-down"], "the memory was not offlined before the teardown"


@kernel_only
@without_blocks
def test_setpersistencemodeonly_succeeds_even_if_the_memory_cannot_be_onlined(world):
    world.simulate(gpus=1, defaults=QUICK + "coherent = yes\nnuma = offline\n")
    daemon = world.start("--no-persistence-mode")
    assert daemon.set_only(world.gpus[0], rpc.ENABLED, timeout=20) == rpc.SUCCESS
    assert daemon.get(world.gpus[0]) == ENABLED
    assert set_numa(daemon, world.gpus[0], ONLINE) == rpc.NUMA_FAILURE
    assert daemon.get(world.gpus[0]) == ENABLED


def blocks(world):
    """The simulated kernel's memory: {state: number of blocks}, and whether all online blocks are movable."""
    folders = list((world.base / "root/sys/devices/system/memory").glob("memory[0-9]*"))
    states = collections.Counter((folder / "state").read_text().strip() for folder in folders)
    movable = all((folder / "valid_zones").read_text() == "Movable\n" for folder in folders[::50]
                  if (folder / "state").read_text() == "online\n")
    return dict(states), movable


def numa_status(world):
    return world.sim.gpu(world.gpus[0])["numa"]["status"]


@kernel_only
@writes_to_sys
def test_a_daemon_as_root_onlines_and_offlines_memory_if_user_space_must_do_it(world):
    world.simulate(gpus=1, defaults=POWER9)
    daemon = world.start("--verbose")
    assert (numa_status(world), blocks(world)) == (DRIVER_OFFLINE, ({}, True))
    assert set_numa(daemon, world.gpus[0], ONLINE) == rpc.SUCCESS
    assert (numa_status(world), blocks(world)) == (DRIVER_ONLINE, ({"online": N_BLOCKS}, True))
    assert set_numa(daemon, world.gpus[0], ONLINE) == rpc.SUCCESS  # again
    assert set_numa(daemon, world.gpus[0], OFFLINE) == rpc.SUCCESS
    assert (numa_status(world), blocks(world)) == (DRIVER_OFFLINE, ({"offline": N_BLOCKS}, True))
    assert daemon.get(world.gpus[0]) == ENABLED


@kernel_only
@writes_to_sys
def test_a_set_of_the_mode_and_a_stop_also_change_the_memory(world):
    world.simulate(gpus=1, defaults=POWER9)
    daemon = world.start("--no-persistence-mode")
    assert daemon.set(world.gpus[0], rpc.ENABLED, timeout=60) == rpc.SUCCESS
    assert numa_status(world) == DRIVER_ONLINE
    assert daemon.set(world.gpus[0], rpc.DISABLED, timeout=60) == rpc.SUCCESS
    assert (numa_status(world), daemon.get(world.gpus[0])) == (DRIVER_OFFLINE, DISABLED)
    assert daemon.set(world.gpus[0], rpc.ENABLED, timeout=60) == rpc.SUCCESS
    assert daemon.stop(timeout=30) == 0
    assert (numa_status(world), blocks(world)) == (DRIVER_OFFLINE, ({"offline": N_BLOCKS}, True))
    assert not world.sim.gpu(world.gpus[0])["initialised"]


@kernel_only
@writes_to_sys
def test_a_daemon_that_is_not_root_changes_no_memory_and_restores_the_mode(world):
    world.simulate(gpus=1, defaults=POWER9)
    daemon = world.start("--user", "nobody", "--no-persistence-mode")
    assert daemon.set(world.gpus[0], rpc.ENABLED, timeout=60) == rpc.NUMA_FAILURE
    assert daemon.get(world.gpus[0]) == DISABLED
    daemon.wait_for_log(r"NUMA memory not onlined\. .*run the daemon with --user root")
    assert blocks(world) == ({}, True) and not world.sim.journal("numa")


@kernel_only
@pytest.mark.holdfast_only("NVIDIA's daemon has no such RPC program")
def test_list_reports_the_drivers_legacy_flag(world):
    world.simulate(gpus=2, gpu1="legacy = yes")
    daemon = world.start("--verbose")
    for address in world.gpus:
        daemon.wait_for_log(rf"device {address} - read the legacy persistence flag")
    with holdfast_rpc.Connection(daemon.socket_path, 20) as connection:
        assert [gpu["legacy_flag"] for gpu in connection.list()["gpus"]] == [0, 1]


@kernel_only
@pytest.mark.holdfast_only("NVIDIA's daemon has no such RPC program")
def test_the_daemon_reads_the_legacy_flag_again_when_a_client_lists(world):
    world.simulate(gpus=1)
    daemon = world.start()

    def flag():
        with holdfast_rpc.Connection(daemon.socket_path, 20) as connection:
            return connection.list()["gpus"][0]["legacy_flag"]

    wait_until(lambda: flag() == OFF, "the flag known to be off")
    world.sim.ctl("legacy", gpu=world.gpus[0], on=True)
    wait_until(lambda: flag() == ON, "the flag known to be on", timeout=30)
    world.sim.ctl("legacy", gpu=world.gpus[0], on=False)
    wait_until(lambda: flag() == OFF, "the flag known to be off again", timeout=30)
