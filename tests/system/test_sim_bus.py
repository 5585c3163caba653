# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The simulated PCI bus in sysfs: the contents of a GPU's folder, and the effect of writes to its files."""

import contextlib
import errno
import os
import struct
import subprocess
import threading

import pytest

from harness.events import wait_until
from harness.simulator import opened, scenario


def bus(sim):
    return sim.root / "sys/bus/pci"


def device(sim, index=0):
    return bus(sim) / "devices" / sim.addresses[index]


def write(path, text):
    """Returns 0, or the errno."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    except OSError as error:
        return error.errno
    try:
        os.write(fd, text.encode())
        return 0
    except OSError as error:
        return error.errno
    finally:
        with contextlib.suppress(OSError):  # the simulator may have ended
            os.close(fd)


def number(sim, name, index=0):
    return int((device(sim, index) / name).read_text(), 0)


def gpu(sim, index=0):
    return sim.status()["gpus"][index]


def capabilities(config):
    """{id: offset} of the capabilities in the configuration space."""
    found, offset = {}, config[0x34]
    while offset:
        assert config[offset] not in found and offset % 4 == 0
        found[config[offset]] = offset
        offset = config[offset + 1]
    return found


# ---- reading ----


def test_the_configuration_space_agrees_with_the_other_files_of_the_gpu(sim):
    config = (device(sim) / "config").read_bytes()
    assert len(config) == 256 == (device(sim) / "config").stat().st_size
    vendor, device_id = struct.unpack_from("HH", config, 0)
    assert (vendor, device_id) == (number(sim, "vendor"), number(sim, "device"))
    assert struct.unpack_from("I", config, 8)[0] == number(sim, "class") << 8 | number(sim, "revision")
    assert struct.unpack_from("HH", config, 0x2c) == (number(sim, "subsystem_vendor"), number(sim, "subsystem_device"))
    assert config[0x3c] == number(sim, "irq") > 0


def test_the_configuration_space_has_a_pci_express_capability(sim):
    with open(device(sim) / "config", "rb", buffering=0) as file:  # in pieces, as pciaccess reads it
        config = b"".join(iter(lambda: file.read(64), b""))
    assert struct.unpack_from("H", config, 6)[0] & 0x10, "the status register announces no list of capabilities"
    express = capabilities(config)[0x10]
    link_status = struct.unpack_from("H", config, express + 0x12)[0]
    assert link_status & 0xf == 5 and link_status >> 4 & 0x3f == 16


def test_the_regions_agree_with_the_configuration_space_and_do_not_overlap(sim):
    seen = []
    for index in range(2):
        config = (device(sim, index) / "config").read_bytes()
        lines = [[int(field, 16) for field in line.split()]
                 for line in (device(sim, index) / "resource").read_text().splitlines()]
        assert len(lines) == 13
        for bar, (start, end, flags) in enumerate(lines[:6]):
            if end > start:
                low, high = struct.unpack_from("II", config, 0x10 + 4 * bar)
                assert (high << 32 | low & ~0xf) == start and low & 0xf == flags & 0xf
                seen.append((start, end))
    assert len(seen) == 6 and all(a[1] < b[0] for a, b in zip(sorted(seen), sorted(seen)[1:]))


# ---- unbind, bind ----


def test_writes_to_the_drivers_files_unbind_and_bind_a_gpu(sim):
    driver, address = bus(sim) / "drivers/nvidia", sim.addresses[0]
    assert write(driver / "unbind", f"{address}\n") == 0 and not gpu(sim)["bound"]
    assert not (device(sim) / "driver").exists() and number(sim, "irq") == 0
    assert write(driver / "unbind", address) == errno.ENODEV, "the GPU is already unbound"
    assert write(driver / "bind", address) == 0 and gpu(sim)["bound"]
    assert write(driver / "bind", address) == errno.EBUSY, "the GPU is already bound"
    for name in ("bind", "unbind"):
        assert write(driver / name, "0000:99:00.0") == write(driver / name, "nonsense") == errno.ENODEV
    assert write(device(sim) / "driver/unbind", address) == 0, "the GPU's link to its driver does not work"


def test_a_shell_can_unbind_and_reset_a_gpu(sim):
    script = f"echo {sim.addresses[0]} >{bus(sim)}/drivers/nvidia/unbind && echo 1 >{device(sim)}/reset"
    subprocess.run(["sh", "-c", script], check=True, timeout=20)
    assert not gpu(sim)["bound"] and sim.journal("reset")


class Unbinding(threading.Thread):
    def __init__(self, sim):
        super().__init__()
        self.result = None
        self.arguments = bus(sim) / "drivers/nvidia/unbind", sim.addresses[0]
        self.start()

    def run(self):
        self.result = write(*self.arguments)


def test_an_unbind_that_waits_blocks_nothing_else(sim):
    with opened(sim, "nvidia0") as fd:
        unbinding = Unbinding(sim)
        wait_until(lambda: gpu(sim)["unbinding"], "the unbind waits")
        assert (device(sim, 1) / "vendor").read_text() == "0x10de\n"
        with opened(sim, "nvidia1"):
            assert gpu(sim, 1)["usage_count"] == 1
        assert write(bus(sim) / "drivers/nvidia/unbind", sim.addresses[1]) == 0
        assert unbinding.is_alive() and gpu(sim)["unbinding"]
        os.close(fd)
        unbinding.join(20)
    assert unbinding.result == 0 and not gpu(sim)["bound"]


def test_an_unbind_continues_after_its_writer_is_killed(sim):
    with opened(sim, "nvidia0"):
        echo = subprocess.Popen(["sh", "-c", f"echo {sim.addresses[0]} >{bus(sim)}/drivers/nvidia/unbind"])
        wait_until(lambda: gpu(sim)["unbinding"], "the unbind waits")
        echo.kill()
        echo.wait(20)
        assert gpu(sim)["unbinding"]
    wait_until(lambda: not gpu(sim)["unbinding"], "the unbind is over")
    assert not gpu(sim)["bound"]


def test_the_end_of_the_simulator_ends_an_unbind_that_waits(make_sim):
    sim = make_sim()
    with contextlib.ExitStack() as stack:
        stack.enter_context(opened(sim, "nvidia0"))
        unbinding = Unbinding(sim)
        wait_until(lambda: gpu(sim)["unbinding"], "the unbind waits")
        sim.stop()
        unbinding.join(20)
    assert unbinding.result not in (None, 0)


def test_an_unbind_ends_drain_and_the_legacy_flag(sim):
    sim.ctl("legacy", gpu=0, on=True)
    sim.ctl("drain", gpu=0, on=True)
    assert write(bus(sim) / "drivers/nvidia/unbind", sim.addresses[0]) == 0
    assert write(bus(sim) / "drivers/nvidia/bind", sim.addresses[0]) == 0
    assert not gpu(sim)["drain"] and not gpu(sim)["legacy"] and not gpu(sim)["initialised"]


# ---- reset, remove, rescan ----


def test_a_reset_repairs_a_gpu_and_does_not_respect_users(make_sim):
    sim = make_sim(scenario(2, gpu0="confidential = yes\nlost = yes\n"))
    assert write(device(sim) / "reset", "1") == 0 and not gpu(sim)["lost"]
    with opened(sim, "nvidia0"):
        assert write(device(sim) / "reset", "1\n") == 0
        assert gpu(sim)["lost"], "a reset during use must break the GPU"
    assert write(device(sim) / "reset", "0") == errno.EINVAL


def test_after_nvidia_smis_reset_the_gpu_has_the_same_minor(sim):
    driver, address = bus(sim) / "drivers/nvidia", sim.addresses[0]
    sim.ctl("drain", gpu=0, on=True)
    steps = [write(driver / "unbind", address), write(device(sim) / "reset", "1"), write(driver / "bind", address)]
    assert steps == [0, 0, 0] and gpu(sim)["minor"] == 0
    with opened(sim, "nvidia0"):
        assert gpu(sim)["initialised"]


def test_a_removed_gpu_comes_back_with_a_rescan(sim):
    assert write(device(sim) / "remove", "1") == 0
    assert not device(sim).exists() and not gpu(sim)["present"]
    assert write(bus(sim) / "drivers/nvidia/bind", sim.addresses[0]) == errno.ENODEV
    assert write(bus(sim) / "rescan", "yes") == errno.EINVAL
    assert write(bus(sim) / "rescan", "1") == 0
    assert device(sim).exists() and gpu(sim)["bound"]


def test_an_unbound_gpu_is_removed_at_once(sim):
    sim.ctl("unbind", gpu=0)
    assert write(device(sim) / "remove", "1") == 0 and not gpu(sim)["present"]


@pytest.mark.parametrize("name", ("config", "resource", "vendor", "irq"))
def test_read_only_files_of_a_gpu_cannot_be_written(sim, name):
    with pytest.raises(PermissionError):
        os.open(device(sim) / name, os.O_WRONLY)
