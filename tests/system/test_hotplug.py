# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""GPUs that are bound, unbound, added and removed: the daemon knows them by PCI address, opens them again, and never hangs."""

import contextlib
import json
import socket
import time

import pytest

from harness import holdfast_rpc, rpc
from harness.events import wait_until
from harness.world import QUICK

pytestmark = pytest.mark.holdfast_only("NVIDIA's daemon looks for GPUs only at its start")

kernel_only = pytest.mark.parametrize("backend", ["kernel"])

ENABLED, DISABLED = (rpc.SUCCESS, rpc.ENABLED), (rpc.SUCCESS, rpc.DISABLED)
NOT_FOUND = (rpc.DEVICE_NOT_FOUND, None)

LATE_GPU = {"gpu2": "present = no"}


def wait_held(world, daemon, address, timeout=20):
    wait_until(lambda: daemon.get(address) == ENABLED and world.sim.gpu(address)["usage_count"] == 1,
               f"{address} is held", timeout=timeout)


def wait_listed(daemon, address, timeout=20):
    wait_until(lambda: daemon.get(address) != NOT_FOUND, f"the daemon lists {address}", timeout=timeout)


def wait_forgotten(daemon, address, timeout=20):
    wait_until(lambda: daemon.get(address) == NOT_FOUND, f"the daemon has forgotten {address}", timeout=timeout)


@contextlib.contextmanager
def unbinding(world, address):
    """Starts an unbind, which may wait as in an administrator's shell. At the end of the block it must succeed."""
    with socket.socket(socket.AF_UNIX) as shell:
        shell.settimeout(30)
        shell.connect(str(world.sim.socket_path))
        shell.sendall(json.dumps({"verb": "unbind", "gpu": address}).encode() + b"\n")
        wait_until(lambda: world.sim.gpu(address)["unbinding"] or not world.sim.gpu(address)["bound"], "the unbind has begun")
        yield
        answer = json.loads(shell.makefile().readline())
        assert answer["ok"], answer


def wait_fresh(world, daemon, address, timeout=20):
    """Waits until the daemon holds the GPU with exactly one descriptor, opened after the last bind."""
    def handles():
        return [(handle["pid"], handle["state"]) for handle in world.sim.gpu(address)["handles"]]
    wait_until(lambda: handles() == [(daemon.pid, "open")], f"{address} is held with a new descriptor", timeout=timeout)
    wait_held(world, daemon, address, timeout)


@pytest.fixture
def daemon(world):
    """The daemon on three GPUs. It opens none before it has subscribed to unbinds, so the tests need not wait for that."""
    world.simulate(gpus=3)
    return world.start("--verbose")


@kernel_only
def test_a_gpu_whose_uuid_becomes_known_is_still_the_same_gpu(world):
    """Drivers before 590 print question marks as the UUID of a GPU that has not been initialised yet."""
    world.simulate(gpus=3, defaults=QUICK + "[driver]\nversion = 550.163.01\n", gpu2="present = no")
    daemon = world.start("--verbose")
    for address in world.gpus[:2]:
        wait_held(world, daemon, address)
    world.sim.ctl("add", gpu=world.gpus[2])  # makes the daemon scan, which also reads the other GPUs again
    wait_held(world, daemon, world.gpus[2])
    assert [gpu["teardowns"] for gpu in world.sim.status()["gpus"]] == [0, 0, 0]


# ---- with a driver that announces unbinds


@kernel_only
def test_an_unbind_of_a_held_gpu_ends_and_a_bind_brings_it_back(world, daemon):
    world.sim.ctl("unbind", gpu=world.gpus[1], timeout=20)
    assert daemon.get(world.gpus[0]) == ENABLED
    wait_forgotten(daemon, world.gpus[1])
    world.sim.ctl("bind", gpu=world.gpus[1])
    wait_held(world, daemon, world.gpus[1])
    assert [gpu["teardowns"] for gpu in world.sim.status()["gpus"]] == [0, 1, 0]


@kernel_only
def test_a_removed_gpu_is_released_and_forgotten_and_held_again_when_it_is_back(world, daemon):
    world.sim.ctl("remove", gpu=world.gpus[2], timeout=20)
    wait_forgotten(daemon, world.gpus[2])
    world.sim.ctl("add", gpu=world.gpus[2])
    wait_held(world, daemon, world.gpus[2])


@kernel_only
def test_gpus_that_change_their_minors_are_not_confused(world, daemon):
    """Two GPUs are removed and added in the other order, so that each gets the other's minor."""
    for address in world.gpus[:2]:
        world.sim.ctl("remove", gpu=address, timeout=20)
    for address in reversed(world.gpus[:2]):
        world.sim.ctl("add", gpu=address)
    assert [world.sim.gpu(address)["minor"] for address in world.gpus] == [1, 0, 2]
    for address in world.gpus:
        wait_held(world, daemon, address)
    # The daemon opens each only once, whether the notice of the bind comes first, or the scan that finds the new minor.
    assert [gpu["initialisations"] for gpu in world.sim.status()["gpus"]] == [2, 2, 1]
    with holdfast_rpc.Connection(daemon.socket_path, 20) as connection:
        wait_until(lambda: [gpu["minor"] for gpu in connection.list()["gpus"]] == [1, 0, 2], "the list has the new minors")


@kernel_only
def test_all_gpus_may_be_unbound_and_bound_at_once(world, daemon):
    for address in world.gpus:
        world.sim.ctl("unbind", gpu=address, timeout=20)
    for address in world.gpus:
        world.sim.ctl("bind", gpu=address)
    for address in world.gpus:
        wait_held(world, daemon, address)


@kernel_only
def test_a_gpu_that_was_set_off_stays_off_over_a_short_absence_of_another(world, daemon):
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    world.sim.ctl("unbind", gpu=world.gpus[1], timeout=20)
    world.sim.ctl("bind", gpu=world.gpus[1])
    wait_held(world, daemon, world.gpus[1])
    assert daemon.get(world.gpus[0]) == DISABLED


@kernel_only
@pytest.mark.parametrize("out, back", [("unbind", "bind"), ("remove", "add")])
def test_a_gpu_that_was_set_off_stays_off_after_its_unbind_or_reset(world, daemon, out, back):
    """nvidia-smi's reset does this, and NVIDIA's daemon behaves in the same way."""
    address = world.gpus[1]
    assert daemon.set(address, rpc.DISABLED) == rpc.SUCCESS
    for _ in range(2):
        world.sim.ctl(out, gpu=address, timeout=20)
        wait_forgotten(daemon, address)
        world.sim.ctl(back, gpu=address)
        wait_listed(daemon, address)
        assert daemon.get(address) == DISABLED
    assert world.sim.gpu(address)["initialisations"] == 1
    assert daemon.set(address, rpc.ENABLED) == rpc.SUCCESS
    world.sim.ctl(out, gpu=address, timeout=20)
    wait_forgotten(daemon, address)
    world.sim.ctl(back, gpu=address)
    wait_held(world, daemon, address)


@kernel_only
def test_a_gpu_that_was_set_on_stays_on_after_an_unbind_though_it_is_configured_off(world):
    world.simulate(gpus=1, defaults=QUICK)
    daemon = world.start("--no-persistence-mode")
    address = world.gpus[0]
    assert daemon.set(address, rpc.ENABLED) == rpc.SUCCESS
    world.sim.ctl("unbind", gpu=address, timeout=20)
    wait_forgotten(daemon, address)
    world.sim.ctl("bind", gpu=address)
    wait_held(world, daemon, address)


@kernel_only
def test_after_many_removals_and_additions_all_gpus_are_held(world, daemon):
    for _ in range(5):
        for address in world.gpus:
            world.sim.ctl("remove", gpu=address, timeout=30)
            world.sim.ctl("add", gpu=address)
    for address in world.gpus:
        wait_held(world, daemon, address, timeout=30)


@kernel_only
def test_an_unbind_that_begins_during_the_first_initialisation_ends(world):
    """The notice comes right after the initialisation. The daemon must have subscribed by then, or it would block the unbind."""
    world.simulate(gpus=1, gpu0="hang = open")
    daemon = world.begin("--verbose")
    wait_until(lambda: world.sim.gpu(world.gpus[0])["initialising"], "the initialisation has begun")
    with unbinding(world, world.gpus[0]):
        world.sim.ctl("hang", gpu=world.gpus[0], on=False)
    world.sim.ctl("bind", gpu=world.gpus[0])
    wait_fresh(world, daemon, world.gpus[0])


@kernel_only
def test_an_unbind_that_waits_for_a_job_ends_with_the_job(world, daemon):
    job = contextlib.ExitStack()
    job.enter_context(world.sim.open_gpu(world.gpus[0]))
    with unbinding(world, world.gpus[0]):
        wait_until(lambda: world.sim.gpu(world.gpus[0])["usage_count"] == 1, "the daemon has released the GPU")
        assert daemon.get(world.gpus[0]) == DISABLED
        job.close()
    wait_forgotten(daemon, world.gpus[0])
    world.sim.ctl("bind", gpu=world.gpus[0])
    wait_fresh(world, daemon, world.gpus[0])


@kernel_only
def test_a_set_finds_a_bound_gpu_before_the_daemon_has_learnt_of_the_bind(world, daemon):
    """nvidia-smi does this at the end of a reset. Here the daemon gets no uevent, so only the Set makes it scan."""
    address = world.gpus[0]
    assert daemon.set(address, 0) == rpc.SUCCESS
    world.sim.ctl("unbind", gpu=address)
    wait_forgotten(daemon, address)
    (daemon.socket_path.parent / "uevents").unlink()
    world.sim.ctl("bind", gpu=address)
    assert daemon.get(address) == NOT_FOUND
    assert daemon.set(address, 1) == rpc.SUCCESS
    assert daemon.get(address) == ENABLED


@kernel_only
@pytest.mark.parametrize("uevents", [True, False])
def test_the_only_gpu_may_be_unbound_and_bound_with_and_without_uevents(world, uevents):
    world.simulate(gpus=1)
    if not uevents:
        world.block_uevents()
    daemon = world.start("--verbose")
    for _ in range(3):
        world.sim.ctl("unbind", gpu=world.gpus[0], timeout=20)
        world.sim.ctl("bind", gpu=world.gpus[0])
        wait_fresh(world, daemon, world.gpus[0])


# ---- a GPU that is pulled out


@kernel_only
@pytest.mark.parametrize("version", ["595.45.04", "570.86.15"])
def test_a_gpu_that_was_pulled_out_and_put_back_is_held_with_a_new_descriptor(world, version):
    """The GPU keeps its address and minor, but the old descriptor is dead. The older driver does not announce the unbind."""
    world.simulate(gpus=2, defaults=QUICK + f"[driver]\nversion = {version}\n")
    daemon = world.start("--verbose")
    world.sim.ctl("lose", gpu=world.gpus[0], surprise=True)
    assert daemon.get(world.gpus[0]) == ENABLED  # the daemon holds a lost GPU until somebody resets or removes it
    world.sim.ctl("remove", gpu=world.gpus[0], timeout=20)
    world.sim.ctl("add", gpu=world.gpus[0])
    assert world.sim.gpu(world.gpus[0])["minor"] == 0
    wait_fresh(world, daemon, world.gpus[0])
    assert [gpu["initialisations"] for gpu in world.sim.status()["gpus"]] == [2, 1]


@pytest.mark.parametrize("backend", ["nvidia-cfg"])
def test_with_the_nvidia_cfg_backend_polling_finds_a_gpu_that_is_about_to_be_removed(world):
    world.simulate(gpus=2)
    daemon = world.start("--verbose")
    world.sim.ctl("remove", gpu=world.gpus[1], timeout=40)  # waits until the daemon has polled and released the GPU
    wait_forgotten(daemon, world.gpus[1])
    world.sim.ctl("add", gpu=world.gpus[1])
    wait_held(world, daemon, world.gpus[1], timeout=40)
    assert daemon.get(world.gpus[0]) == ENABLED


# ---- with a driver that does not announce unbinds


OLD_DRIVERS = pytest.mark.parametrize("version", ["535.261.03", "550.163.01", "570.86.15"])


def forge(world, record):
    """Writes a record into the simulated kernel log."""
    with open(world.base / "root/run/kmsg", "w", encoding="utf-8") as log:
        log.write(record + "\n")


def waiting_removal(address):
    return f"NVRM: Attempting to remove device {address} with non-zero usage count!"


@kernel_only
@OLD_DRIVERS
def test_without_notices_the_kernel_log_reports_an_unbind_and_the_next_bind_is_found(world, version):
    world.simulate(gpus=2, defaults=QUICK + f"[driver]\nversion = {version}\n")
    daemon = world.start("--verbose")
    daemon.wait_for_log("listening to the kernel log for unbinds")
    world.sim.ctl("unbind", gpu=world.gpus[0], timeout=20)
    daemon.wait_for_log(f"device {world.gpus[0]} - the driver is about to unbind it")
    assert daemon.get(world.gpus[1]) == ENABLED
    world.sim.ctl("bind", gpu=world.gpus[0])
    wait_held(world, daemon, world.gpus[0])
    world.sim.ctl("remove", gpu=world.gpus[0])
    wait_forgotten(daemon, world.gpus[0])
    world.sim.ctl("add", gpu=world.gpus[0])
    wait_held(world, daemon, world.gpus[0])


@kernel_only
def test_records_in_the_kernel_log_release_no_gpu_that_is_bound(world):
    """Forged ones, and old ones: a record stays in the log, and may be read after the next bind."""
    world.simulate(gpus=2, defaults=QUICK + "[driver]\nversion = 550.163.01\n")
    daemon = world.start("--verbose")
    first, second = world.gpus
    for record in (f"12,1,2,-;{waiting_removal(first)}", f"6,1,2,-; {waiting_removal(first)}",
                   f"6,1,2,-;{waiting_removal('0000:99:00.0')}", "x", "", f"3,1,2,-;{waiting_removal(first)}"):
        forge(world, record)
    with unbinding(world, second):  # its record comes after the others
        daemon.wait_for_log(f"device {second} - the driver is about to unbind it")
    assert daemon.get(first) == ENABLED
    assert world.sim.gpu(first)["teardowns"] == 0


@kernel_only
def test_a_flood_in_the_kernel_log_delays_no_client_and_hides_no_unbind(world):
    world.simulate(gpus=1, defaults=QUICK + "[driver]\nversion = 550.163.01\n")
    daemon = world.start("--verbose")
    flood = "".join(f"6,{i},2,-;usb 1-1: new high-speed USB device number {i}\n" for i in range(900))
    forge(world, flood)
    start = time.monotonic()
    assert daemon.get(world.gpus[0]) == ENABLED
    assert time.monotonic() - start < 5
    world.sim.ctl("unbind", gpu=world.gpus[0])
    daemon.wait_for_log(f"device {world.gpus[0]} - the driver is about to unbind it")


@kernel_only
def test_without_notices_and_kernel_log_an_unbind_waits_until_a_client_sets_the_gpu_off(world):
    """The GPU stays off after the next bind."""
    world.simulate(gpus=2, defaults=QUICK + "[driver]\nversion = 570.86.15\n")
    (world.base / "root/run/kmsg").unlink()
    daemon = world.start("--verbose")
    daemon.wait_for_log("the kernel log cannot be read either: release a GPU before you unbind it")
    with unbinding(world, world.gpus[0]):
        assert daemon.get(world.gpus[0]) == ENABLED
        assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    wait_forgotten(daemon, world.gpus[0])
    world.sim.ctl("bind", gpu=world.gpus[0])
    wait_listed(daemon, world.gpus[0])
    assert daemon.get(world.gpus[0]) == DISABLED
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    wait_held(world, daemon, world.gpus[0])


# ---- GPUs or a driver that appear later


def test_a_gpu_that_is_added_later_is_held(world):
    world.simulate(gpus=3, **LATE_GPU)
    daemon = world.start()
    assert daemon.get(world.gpus[2]) == NOT_FOUND
    world.sim.ctl("add", gpu=world.gpus[2])
    wait_held(world, daemon, world.gpus[2])
    assert [gpu["initialisations"] for gpu in world.sim.status()["gpus"]] == [1, 1, 1]


def test_on_a_node_without_gpus_the_daemon_waits_and_logs_one_line(world):
    world.simulate(gpus=1, defaults=QUICK + "present = no\n")
    daemon = world.start()
    daemon.wait_for_log("no NVIDIA GPU found; waiting")
    world.sim.ctl("add", gpu=world.gpus[0])
    wait_held(world, daemon, world.gpus[0])
    assert len([line for line in daemon.log.all if "no NVIDIA GPU found" in line]) == 1


@kernel_only
@pytest.mark.parametrize("uevents", [True, False])
def test_without_a_driver_the_daemon_waits_and_logs_one_line(world, uevents):
    world.without_driver()
    if not uevents:
        world.block_uevents()
    daemon = world.start()
    daemon.wait_for_log("no NVIDIA GPU found; waiting")
    world.simulate(gpus=2)
    for address in world.gpus:
        wait_fresh(world, daemon, address, timeout=40)
    assert [line for line in daemon.log.all if "Started" not in line] == [
        "no NVIDIA GPU found; waiting for the driver and GPUs to appear"]


@kernel_only
def test_without_uevents_and_notices_polling_finds_a_new_gpu(world):
    world.simulate(gpus=3, defaults=QUICK + "[driver]\nversion = 570.86.15\n", **LATE_GPU)
    world.block_uevents()
    daemon = world.start()
    world.sim.ctl("add", gpu=world.gpus[2])
    wait_held(world, daemon, world.gpus[2], timeout=30)


# ---- uevents from unknown senders


@kernel_only
@pytest.mark.parametrize("text", [
    b"", b"\0", b"\xff" * 2000, b"remove@/devices\0ACTION=remove", b"ACTION=remove\0SUBSYSTEM=pci\0DEVPATH=\0",
    b"ACTION=remove\0SUBSYSTEM=pci\0DEVPATH=/devices/pci0000:00/zz:zz:zz.z\0", b"ACTION\0SUBSYSTEM\0DEVPATH\0",
    b"ACTION=remove\0SUBSYSTEM=usb\0DEVPATH=/devices/0000:17:00.0\0",
])
def test_a_hostile_uevent_changes_nothing(world, daemon, text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text, str(daemon.socket_path.parent / "uevents"))
    world.sim.ctl("status")
    assert [daemon.get(address) for address in world.gpus] == [ENABLED] * 3
    assert [gpu["teardowns"] for gpu in world.sim.status()["gpus"]] == [0, 0, 0]


@kernel_only
def test_a_uevent_of_a_removal_makes_the_daemon_open_a_swapped_gpu_again(world, daemon):
    """The new GPU has the same address and minor. Only the uevent shows that the daemon's descriptor is for the old one."""
    uevent = f"remove@/devices/pci0000:00/{world.gpus[0]}\0ACTION=remove\0SUBSYSTEM=pci\0" \
             f"DEVPATH=/devices/pci0000:00/{world.gpus[0]}\0"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(uevent.encode(), str(daemon.socket_path.parent / "uevents"))
    wait_until(lambda: world.sim.gpu(world.gpus[0])["initialisations"] == 2, "the daemon has opened the GPU again")
    wait_held(world, daemon, world.gpus[0])
    assert world.sim.gpu(world.gpus[1])["initialisations"] == 1
