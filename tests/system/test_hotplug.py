# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""GPUs that come and go: followed with fresh descriptors, known by their PCI addresses, nothing hung."""

import contextlib
import json
import socket
import time

import pytest

from harness import holdfast_rpc, rpc
from harness.events import wait_until
from harness.world import QUICK

pytestmark = pytest.mark.holdfast_only("NVIDIA's looks for GPUs once")

kernel_only = pytest.mark.parametrize("backend", ["kernel"])

ENABLED, DISABLED = (rpc.SUCCESS, rpc.ENABLED), (rpc.SUCCESS, rpc.DISABLED)
NOT_FOUND = (rpc.DEVICE_NOT_FOUND, None)

LATE_GPU = {"gpu2": "present = no"}


def wait_held(world, daemon, address, timeout=20):
    wait_until(lambda: daemon.get(address) == ENABLED and world.sim.gpu(address)["usage_count"] == 1,
               f"{address} held", timeout=timeout)


def wait_listed(daemon, address, timeout=20):
    wait_until(lambda: daemon.get(address) != NOT_FOUND, f"{address} listed", timeout=timeout)


def wait_forgotten(daemon, address, timeout=20):
    wait_until(lambda: daemon.get(address) == NOT_FOUND, f"{address} forgotten", timeout=timeout)


@contextlib.contextmanager
def unbinding(world, address):
    """An unbind as an administrator's shell has it, which waits; at the end it must be over."""
    with socket.socket(socket.AF_UNIX) as shell:
        shell.settimeout(30)
        shell.connect(str(world.sim.socket_path))
        shell.sendall(json.dumps({"verb": "unbind", "gpu": address}).encode() + b"\n")
        wait_until(lambda: world.sim.gpu(address)["unbinding"] or not world.sim.gpu(address)["bound"], "the unbind's begin")
        yield
        answer = json.loads(shell.makefile().readline())
        assert answer["ok"], answer


def wait_fresh(world, daemon, address, timeout=20):
    """Held by one descriptor of the daemon's, which is of the GPU that is there now."""
    def handles():
        return [(handle["pid"], handle["state"]) for handle in world.sim.gpu(address)["handles"]]
    wait_until(lambda: handles() == [(daemon.pid, "open")], f"{address} held by a fresh descriptor", timeout=timeout)
    wait_held(world, daemon, address, timeout)


def block_uevents(world):
    """Before the daemon starts: the name of its socket for uevents is taken."""
    (world.base / "root/run/nvidia-persistenced/uevents").mkdir(parents=True)


@pytest.fixture
def daemon(world):
    """On three GPUs. It opens none before it hears of unbinds, so there is nothing to wait for."""
    world.simulate(gpus=3)
    return world.start("--verbose")


@kernel_only
def test_a_uuid_that_becomes_known_is_no_other_gpu(world):
    """Drivers before 590 print question marks for the UUID of a GPU that was never initialised."""
    world.simulate(gpus=3, defaults=QUICK + "[driver]\nversion = 550.163.01\n", gpu2="present = no")
    daemon = world.start("--verbose")
    for address in world.gpus[:2]:
        wait_held(world, daemon, address)
    world.sim.ctl("add", gpu=world.gpus[2])  # looked for: the others are looked at again
    wait_held(world, daemon, world.gpus[2])
    assert [gpu["teardowns"] for gpu in world.sim.status()["gpus"]] == [0, 0, 0]


# ---- on a driver that announces unbinds


@kernel_only
def test_an_unbind_of_a_held_gpu_ends_and_a_bind_brings_it_back(world, daemon):
    world.sim.ctl("unbind", gpu=world.gpus[1], timeout=20)
    assert daemon.get(world.gpus[0]) == ENABLED
    wait_forgotten(daemon, world.gpus[1])
    world.sim.ctl("bind", gpu=world.gpus[1])
    wait_held(world, daemon, world.gpus[1])
    assert [gpu["teardowns"] for gpu in world.sim.status()["gpus"]] == [0, 1, 0]


@kernel_only
def test_a_removed_gpu_is_let_go_of_and_forgotten_and_held_again_when_it_is_back(world, daemon):
    world.sim.ctl("remove", gpu=world.gpus[2], timeout=20)
    wait_forgotten(daemon, world.gpus[2])
    world.sim.ctl("add", gpu=world.gpus[2])
    wait_held(world, daemon, world.gpus[2])


@kernel_only
def test_gpus_that_change_their_minors_are_not_confused(world, daemon):
    """Both are taken out and put back the other way round: each gets the minor that was the other's."""
    for address in world.gpus[:2]:
        world.sim.ctl("remove", gpu=address, timeout=20)
    for address in reversed(world.gpus[:2]):
        world.sim.ctl("add", gpu=address)
    assert [world.sim.gpu(address)["minor"] for address in world.gpus] == [1, 0, 2]
    for address in world.gpus:
        wait_held(world, daemon, address)
    # Each was opened once, whichever came first: the notice of the bind, or the look that showed the other minor.
    assert [gpu["initialisations"] for gpu in world.sim.status()["gpus"]] == [2, 2, 1]
    with holdfast_rpc.Connection(daemon.socket_path, 20) as connection:
        wait_until(lambda: [gpu["minor"] for gpu in connection.list()["gpus"]] == [1, 0, 2], "the new minors in the list")


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
def test_what_was_set_off_stays_off_over_an_unbind_or_a_reset_of_its_own(world, daemon, out, back):
    """As nvidia-smi's reset does it, and as it is with NVIDIA's daemon."""
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
def test_what_was_set_on_stays_on_though_it_is_configured_off(world):
    world.simulate(gpus=1, defaults=QUICK)
    daemon = world.start("--no-persistence-mode")
    address = world.gpus[0]
    assert daemon.set(address, rpc.ENABLED) == rpc.SUCCESS
    world.sim.ctl("unbind", gpu=address, timeout=20)
    wait_forgotten(daemon, address)
    world.sim.ctl("bind", gpu=address)
    wait_held(world, daemon, address)


@kernel_only
def test_a_storm_of_comings_and_goings_ends_with_all_held(world, daemon):
    for _ in range(5):
        for address in world.gpus:
            world.sim.ctl("remove", gpu=address, timeout=30)
            world.sim.ctl("add", gpu=address)
    for address in world.gpus:
        wait_held(world, daemon, address, timeout=30)


@kernel_only
def test_an_unbind_that_begins_during_the_first_initialisation_ends(world):
    """The notice comes when that is over: by then the daemon must listen, or it would hold what is to go."""
    world.simulate(gpus=1, gpu0="hang = open")
    daemon = world.begin("--verbose")
    wait_until(lambda: world.sim.gpu(world.gpus[0])["initialising"], "the initialisation's begin")
    with unbinding(world, world.gpus[0]):
        world.sim.ctl("hang", gpu=world.gpus[0], on=False)
    world.sim.ctl("bind", gpu=world.gpus[0])
    wait_fresh(world, daemon, world.gpus[0])


@kernel_only
def test_an_unbind_that_a_job_holds_up_ends_with_the_job(world, daemon):
    job = contextlib.ExitStack()
    job.enter_context(world.sim.open_gpu(world.gpus[0]))
    with unbinding(world, world.gpus[0]):
        wait_until(lambda: world.sim.gpu(world.gpus[0])["usage_count"] == 1, "the daemon's release")
        assert daemon.get(world.gpus[0]) == DISABLED
        job.close()
    wait_forgotten(daemon, world.gpus[0])
    world.sim.ctl("bind", gpu=world.gpus[0])
    wait_fresh(world, daemon, world.gpus[0])


@kernel_only
def test_a_set_right_after_a_bind_finds_the_gpu_before_anybody_has_told_of_the_bind(world, daemon):
    """As nvidia-smi does at the end of a reset. Here nobody tells at all."""
    address = world.gpus[0]
    assert daemon.set(address, 0) == rpc.SUCCESS
    world.sim.ctl("unbind", gpu=address)
    wait_forgotten(daemon, address)
    (daemon.socket_path.parent / "uevents").unlink()
    world.sim.ctl("bind", gpu=address)
    assert daemon.get(address) == NOT_FOUND
    assert daemon.set(address, 1) == rpc.SUCCESS
    assert daemon.get(address) == ENABLED


@pytest.mark.parametrize("uevents", [True, False])
def test_the_only_gpu_may_be_unbound_and_bound_with_and_without_uevents(world, uevents):
    world.simulate(gpus=1)
    if not uevents:
        block_uevents(world)
    daemon = world.start("--verbose")
    for _ in range(3):
        world.sim.ctl("unbind", gpu=world.gpus[0], timeout=20)
        world.sim.ctl("bind", gpu=world.gpus[0])
        wait_fresh(world, daemon, world.gpus[0])


# ---- pulled out


@kernel_only
@pytest.mark.parametrize("version", ["595.45.04", "570.86.15"])
def test_a_gpu_pulled_out_and_put_back_is_held_by_a_fresh_descriptor(world, version):
    """The same address, the same minor, and the old descriptor dead; the older driver does not even announce it."""
    world.simulate(gpus=2, defaults=QUICK + f"[driver]\nversion = {version}\n")
    daemon = world.start("--verbose")
    world.sim.ctl("lose", gpu=world.gpus[0], surprise=True)
    assert daemon.get(world.gpus[0]) == ENABLED  # what is held is told, and a lost GPU is let go of by whoever resets it
    world.sim.ctl("remove", gpu=world.gpus[0], timeout=20)
    world.sim.ctl("add", gpu=world.gpus[0])
    assert world.sim.gpu(world.gpus[0])["minor"] == 0
    wait_fresh(world, daemon, world.gpus[0])
    assert [gpu["initialisations"] for gpu in world.sim.status()["gpus"]] == [2, 1]


@pytest.mark.parametrize("backend", ["nvidia-cfg"])
def test_over_the_library_a_gpu_that_is_to_go_is_found_by_looking(world):
    world.simulate(gpus=2)
    daemon = world.start("--verbose")
    world.sim.ctl("remove", gpu=world.gpus[1], timeout=40)  # waits until the daemon has looked, and let go
    wait_forgotten(daemon, world.gpus[1])
    world.sim.ctl("add", gpu=world.gpus[1])
    wait_held(world, daemon, world.gpus[1], timeout=40)
    assert daemon.get(world.gpus[0]) == ENABLED


# ---- on a driver that does not


OLD_DRIVERS = pytest.mark.parametrize("version", ["535.261.03", "550.163.01", "570.86.15"])


def forge(world, record):
    """Writes a record into the simulated kernel log."""
    with open(world.base / "root/run/kmsg", "w", encoding="utf-8") as log:
        log.write(record + "\n")


def waits(address):
    return f"NVRM: Attempting to remove device {address} with non-zero usage count!"


@kernel_only
@OLD_DRIVERS
def test_without_notices_the_kernel_log_tells_of_an_unbind_and_the_bind_is_followed(world, version):
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
def test_what_others_write_into_the_kernel_log_lets_go_of_nothing(world):
    world.simulate(gpus=2, defaults=QUICK + "[driver]\nversion = 550.163.01\n")
    daemon = world.start("--verbose")
    first, second = world.gpus
    for record in (f"12,1,2,-;{waits(first)}", f"6,1,2,-; {waits(first)}", f"6,1,2,-;{waits('0000:99:00.0')}", "x", ""):
        forge(world, record)
    forge(world, f"3,1,2,-;{waits(second)}")
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
def test_with_neither_notices_nor_the_log_an_unbind_waits_for_a_set_off_which_lasts_over_the_bind(world):
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


# ---- GPUs, or a driver, that come late


def test_a_gpu_that_is_added_later_is_held(world):
    world.simulate(gpus=3, **LATE_GPU)
    daemon = world.start()
    assert daemon.get(world.gpus[2]) == NOT_FOUND
    world.sim.ctl("add", gpu=world.gpus[2])
    wait_held(world, daemon, world.gpus[2])
    assert [gpu["initialisations"] for gpu in world.sim.status()["gpus"]] == [1, 1, 1]


def test_a_node_without_gpus_is_waited_for_with_one_line(world):
    world.simulate(gpus=1, defaults=QUICK + "present = no\n")
    daemon = world.start()
    daemon.wait_for_log("no NVIDIA GPU found; waiting")
    world.sim.ctl("add", gpu=world.gpus[0])
    wait_held(world, daemon, world.gpus[0])
    assert len([line for line in daemon.log.all if "no NVIDIA GPU found" in line]) == 1


@kernel_only
@pytest.mark.parametrize("uevents", [True, False])
def test_a_driver_that_is_loaded_later_is_waited_for_with_one_line(world, uevents):
    world.without_driver()
    if not uevents:
        block_uevents(world)
    daemon = world.start()
    daemon.wait_for_log("no NVIDIA GPU found; waiting")
    world.simulate(gpus=2)
    for address in world.gpus:
        wait_fresh(world, daemon, address, timeout=40)
    assert [line for line in daemon.log.all if "Started" not in line] == [
        "no NVIDIA GPU found; waiting for the driver and GPUs to appear"]


@kernel_only
def test_where_nobody_tells_of_a_new_gpu_it_is_found_by_looking(world):
    world.simulate(gpus=3, defaults=QUICK + "[driver]\nversion = 570.86.15\n", **LATE_GPU)
    block_uevents(world)
    daemon = world.start()
    world.sim.ctl("add", gpu=world.gpus[2])
    wait_held(world, daemon, world.gpus[2], timeout=30)


# ---- uevents from who knows whom


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
def test_a_gpu_swapped_behind_our_back_is_opened_anew_when_the_kernel_tells(world, daemon):
    """The same address and minor: only the uevent says that what is held is of the GPU before."""
    uevent = f"remove@/devices/pci0000:00/{world.gpus[0]}\0ACTION=remove\0SUBSYSTEM=pci\0" \
             f"DEVPATH=/devices/pci0000:00/{world.gpus[0]}\0"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(uevent.encode(), str(daemon.socket_path.parent / "uevents"))
    wait_until(lambda: world.sim.gpu(world.gpus[0])["initialisations"] == 2, "a fresh open")
    wait_held(world, daemon, world.gpus[0])
    assert world.sim.gpu(world.gpus[1])["initialisations"] == 1
