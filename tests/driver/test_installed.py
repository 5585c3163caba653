# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The installed service on a machine with NVIDIA's driver, whose module is exchanged and whose GPUs are unbound and removed."""

import subprocess
import time
from pathlib import Path

import pytest

UNIT = "nvidia-persistenced.service"
KEEPER = ("holdfast-keeper.service", "holdfast-keeper.socket")
MODULES = "/usr/lib/lab/nvidia"
ALL = range(4)


def systemctl(*words, timeout=60, check=True):
    done = subprocess.run(["systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


def show(name):
    return systemctl("show", "--property", name, "--value", UNIT)


@pytest.fixture
def unit(driver):
    """A driver whose GPUs the installed unit holds. The unit is stopped at the end."""
    systemctl("start", UNIT)
    wait_held(driver, *ALL)
    yield driver
    driver.end_hangs()
    systemctl("stop", UNIT)
    systemctl("stop", *KEEPER, check=False)
    systemctl("reset-failed", UNIT, *KEEPER, check=False)


def holdfast(*words, timeout=60):
    return subprocess.run(["holdfast", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, check=False)


def wait_held(driver, *gpus, timeout=30):
    addresses = [word for gpu in gpus for word in ("--gpu", driver.addresses[gpu])]
    done = holdfast("wait", "--timeout", str(timeout), *addresses, timeout=timeout + 10)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


# ---- GPUs and the driver come and go


@pytest.fixture
def loaded(unit):
    """The same. At the end both of the driver's modules are loaded again, if necessary."""
    load()
    yield unit
    load()


def load():
    for name, file in (("nvidia", "nvidia.ko"), ("nvidia_uvm", "nvidia-uvm.ko")):
        line = f"grep -q '^{name} ' /proc/modules || insmod {MODULES}/{file}"
        subprocess.run(line, shell=True, stdin=subprocess.DEVNULL, check=True)


def test_the_module_is_in_use_while_gpus_are_held_and_can_be_exchanged_during_a_release(loaded):
    pid = show("MainPID")
    refused = subprocess.run(["rmmod", "nvidia_uvm", "nvidia"], stdin=subprocess.DEVNULL, check=False,
                             capture_output=True)
    assert refused.returncode != 0
    load()
    exchange = f"rmmod nvidia_uvm nvidia && insmod {MODULES}/nvidia.ko && insmod {MODULES}/nvidia-uvm.ko"
    done = holdfast("release", "--", "sh", "-c", exchange, timeout=90)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    wait_held(loaded, *ALL)
    assert show("MainPID") == pid


# A unit that loads and unloads the driver, as administrators write it. Our unit does not know its name.
DRIVER_UNIT = "anything.service"
UNITS = Path("/run/systemd/system")
REQUIRES = UNITS / f"{UNIT}.requires"
DRIVER_UNIT_TEXT = f"""[Unit]
Before={UNIT}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/insmod {MODULES}/nvidia.ko
ExecStart=/sbin/insmod {MODULES}/nvidia-uvm.ko
ExecStop=/sbin/rmmod nvidia_uvm nvidia
"""


def module_inode():
    """Returns a number that changes with each load of the module, or None if it is not loaded."""
    folder = Path("/sys/module/nvidia")
    return folder.stat().st_ino if folder.exists() else None


def journal():
    """Returns the last lines of the three units and their programs."""
    units = [f"--unit={name}" for name in (UNIT, DRIVER_UNIT, *KEEPER)]
    return subprocess.run(["journalctl", "--no-pager", "--output=short-precise", "--lines=60", *units], capture_output=True,
                          text=True, check=False).stdout


@pytest.fixture
def driver_unit(loaded):
    """The same, with the driver loaded by a unit that ours requires."""
    systemctl("stop", UNIT)
    subprocess.run(["rmmod", "nvidia_uvm", "nvidia"], stdin=subprocess.DEVNULL, check=True)
    REQUIRES.mkdir(parents=True)
    (UNITS / DRIVER_UNIT).write_text(DRIVER_UNIT_TEXT)
    (REQUIRES / DRIVER_UNIT).symlink_to(UNITS / DRIVER_UNIT)
    systemctl("daemon-reload")
    systemctl("start", UNIT)
    wait_held(loaded, *ALL)
    yield loaded
    systemctl("stop", UNIT)
    systemctl("stop", DRIVER_UNIT, check=False)
    (REQUIRES / DRIVER_UNIT).unlink()
    REQUIRES.rmdir()
    (UNITS / DRIVER_UNIT).unlink()
    systemctl("daemon-reload")
    systemctl("reset-failed", DRIVER_UNIT, check=False)


def test_a_restart_of_the_unit_that_loads_the_driver_exchanges_the_module(driver_unit):
    """systemd restarts our unit, too. If the keeper kept the GPUs as in other restarts, rmmod would find the module in use."""
    before = module_inode()
    done = subprocess.run(["systemctl", "restart", DRIVER_UNIT], stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, journal()
    assert module_inode() not in (before, None)
    wait_held(driver_unit, *ALL)
    teardowns = [gpu["teardowns"] for gpu in driver_unit.gpus()]
    systemctl("restart", UNIT)
    wait_held(driver_unit, *ALL)
    assert [gpu["teardowns"] for gpu in driver_unit.gpus()] == teardowns, "an ordinary restart tears no GPU down"


def test_a_stop_of_the_unit_that_loads_the_driver_unloads_the_module(driver_unit):
    systemctl("stop", DRIVER_UNIT)
    assert module_inode() is None
    assert show("ActiveState") == "inactive"
    systemctl("start", UNIT)
    wait_held(driver_unit, *ALL)


def test_an_unbind_of_a_held_gpu_ends_and_after_a_bind_it_is_held_again(unit):
    start = time.monotonic()
    unit.later(unit.unbind, 0).result(10)
    assert time.monotonic() - start < 3
    wait_held(unit, 1, 2, 3)
    unit.bind(0)
    wait_held(unit, *ALL)
    assert [gpu["teardowns"] for gpu in unit.gpus()] == [1, 0, 0, 0]


def test_a_gpu_that_is_removed_from_the_bus_is_held_again_when_it_is_added(unit):
    unit.later(unit.remove, 1).result(10)
    unit.add(1)
    wait_held(unit, *ALL)


def test_a_stopped_daemon_delays_an_unbind_until_it_continues(unit):
    systemctl("kill", "--signal=STOP", UNIT)
    unbind = unit.later(unit.unbind, 0)
    assert not unbind.ended(3)
    systemctl("kill", "--signal=CONT", UNIT)
    unbind.result(15)
    unit.bind(0)
    wait_held(unit, *ALL)


# ---- a drained GPU


def test_a_release_with_a_drained_gpu_ends_soon_and_names_the_reason(unit):
    unit.drain(1)
    start = time.monotonic()
    done = holdfast("release", "--", "true", timeout=130)
    assert time.monotonic() - start < 30
    assert "drain" in done.stdout + done.stderr
    unit.drain(1, False)
