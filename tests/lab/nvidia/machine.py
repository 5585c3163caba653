# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The virtual machine with NVIDIA's driver loaded, on fake GPUs."""

import contextlib
import shutil

from lab import base
from lab.clock import timed
from lab.lab import TOP
from vm import image, kernel, seed
from vm.machine import Machine

from . import build

PACKAGES = ("python3-pytest", "python3-pytest-timeout")
MEMORY = "2G"
# Reserves 512 MB of RAM at 1 GB for the GPUs (module/bus.c).
KERNEL_WORDS = "memmap=512M$0x40000000 pci=no_e820 log_buf_len=1M"
MODULES = "/usr/lib/lab/nvidia"
TESTS = "/srv/holdfast"  # the files of the checkout that the suite needs
CARRIED = ("pytest.ini", "tests/driver", "tests/system/harness")
SEED_SIZE = "256M"


def make_seed(lab, modules):
    folder, file = lab.folder / "driver.seed", lab.folder / "driver.seed.img"
    shutil.rmtree(folder, ignore_errors=True)
    with timed("virtual machine's disk"):
        seed.lay_out(lab, folder)
        (folder / MODULES.lstrip("/")).mkdir(parents=True)
        for name in build.MODULES:
            shutil.copy(modules / name, folder / MODULES.lstrip("/"))
        for name in CARRIED:
            target = folder / TESTS.lstrip("/") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (TOP / name).is_dir():
                shutil.copytree(TOP / name, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif (TOP / name).exists():
                shutil.copy(TOP / name, target)
        image.make_disk(file, folder, SEED_SIZE)
    return file


def load(machine, count):
    """Loads the fake GPUs, and NVIDIA's driver for them."""
    hangs = "/proc/sys/kernel/hung_task_timeout_secs"
    machine.exec("sh", "-c", f"[ ! -e {hangs} ] || echo 0 >{hangs}")  # here, processes hang on purpose
    machine.exec("insmod", f"{MODULES}/lab_gpus.ko", f"count={count}")
    for name in ("nvidia.ko", "nvidia-uvm.ko"):
        machine.exec("insmod", f"{MODULES}/{name}", timeout=120)
    machine.exec("udevadm", "settle")


@contextlib.contextmanager
def booted(lab, branch, count=4):
    """For a with statement: (the machine, the driver's version). The driver of that branch is loaded with COUNT GPUs."""
    release = kernel.release()
    with base.used(PACKAGES) as root, image.used(root, release, kind="driver-vm") as made, \
            build.used(branch, release) as (modules, version):
        machine = Machine(lab, made, make_seed(lab, modules), MEMORY, KERNEL_WORDS)
        try:
            machine.boot()
            load(machine, count)
            yield machine, version
        finally:
            machine.switch_off()
