# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""UVM persistence: the daemon registers held GPUs with UVM. A late NVLink fabric delays neither the hold nor readiness."""

import pytest

from harness import holdfast_rpc, rpc
from harness.events import wait_until
from harness.holdfast_rpc import UVM_OFF, UVM_ON, UVM_WAITING
from harness.world import QUICK

ENABLED, DISABLED = (rpc.SUCCESS, rpc.ENABLED), (rpc.SUCCESS, rpc.DISABLED)

ours = pytest.mark.holdfast_only("NVIDIA's daemon waits for the fabric, GPU by GPU, and reports no state")
kernel_only = pytest.mark.parametrize("backend", ["kernel"])


def listed(daemon):
    with holdfast_rpc.Connection(daemon.socket_path, 30) as connection:
        return connection.list()["gpus"]


def registrations(world):
    return [gpu["uvm"] for gpu in world.sim.status()["gpus"]]


def wait_registered(world, *wanted):
    wait_until(lambda: registrations(world) == list(wanted), f"the UVM registrations are {wanted}", timeout=20)


def test_without_uvm_persistence_mode_no_gpu_is_registered_with_uvm(world, daemon):
    assert registrations(world) == [0, 0]


def test_with_uvm_persistence_mode_each_held_gpu_is_registered_with_uvm(world):
    world.simulate(gpus=4)
    world.start("--uvm-persistence-mode")
    wait_registered(world, 1, 1, 1, 1)


@ours
def test_a_fabric_that_is_20_s_late_does_not_delay_readiness(world):
    world.simulate(gpus=4, defaults=QUICK + "fabric_delay = 20s\n")
    daemon = world.start("--uvm-persistence-mode")  # fails unless READY=1 comes within 20 s
    gpus = listed(daemon)
    assert [(gpu["state"], gpu["uvm"]) for gpu in gpus] == [(holdfast_rpc.HELD, UVM_WAITING)] * 4
    wait_until(lambda: "fabric" in listed(daemon)[0]["uvm_text"].lower(), "the list has the reason")
    assert daemon.get(world.gpus[0]) == ENABLED


@ours
def test_gpus_are_registered_with_uvm_once_the_fabric_is_ready(world):
    world.simulate(gpus=3, defaults=QUICK + "fabric_delay = 2s\n")
    daemon = world.start("--uvm-persistence-mode", "--verbose")
    wait_registered(world, 1, 1, 1)
    wait_until(lambda: [gpu["uvm"] for gpu in listed(daemon)] == [UVM_ON] * 3, "the list shows UVM on")
    assert [gpu["uvm_text"] for gpu in listed(daemon)] == [""] * 3
    assert [gpu["teardowns"] for gpu in world.sim.status()["gpus"]] == [0] * 3


@ours
def test_a_gpu_that_uvm_refuses_is_still_held(world):
    world.simulate(gpus=2, gpu1="uvm = no")
    daemon = world.start("--uvm-persistence-mode")
    wait_registered(world, 1, 0)
    assert daemon.get(world.gpus[1]) == ENABLED
    wait_until(lambda: listed(daemon)[1]["uvm_text"], "the list has the reason")


def test_a_set_off_ends_uvm_before_the_hold_and_a_set_on_restores_both(world):
    world.simulate(gpus=1)
    daemon = world.start("--uvm-persistence-mode")
    wait_registered(world, 1)
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    assert registrations(world) == [0]
    order = [record["event"] for record in world.sim.journal("uvm-unregistered", "torn-down")]
    assert order == ["uvm-unregistered", "torn-down"]
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    if not world.site.other:
        wait_registered(world, 1)


@ours
@kernel_only
def test_the_unbind_of_a_gpu_registered_with_uvm_ends(world):
    """This is true for drivers up to 590. From 595 on, the driver cannot end a UVM registration after an unbind has begun."""
    world.simulate(gpus=2, defaults=QUICK + "[driver]\nversion = 580.95.05\n")
    daemon = world.start("--uvm-persistence-mode")
    wait_registered(world, 1, 1)
    world.sim.ctl("unbind", gpu=world.gpus[0], timeout=20)
    assert daemon.get(world.gpus[1]) == ENABLED
    world.sim.ctl("bind", gpu=world.gpus[0])
    wait_until(lambda: daemon.get(world.gpus[0]) == ENABLED, "the GPU is held again", timeout=20)
    wait_registered(world, 1, 1)


@ours
def test_without_persistence_mode_no_gpu_is_registered_with_uvm(world):
    world.simulate(gpus=1)
    daemon = world.start("--uvm-persistence-mode", "--no-persistence-mode")
    assert listed(daemon)[0]["uvm"] == UVM_OFF
    assert registrations(world) == [0]
