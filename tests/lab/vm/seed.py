# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What is laid over the image at its boot, and is of one run only: the build, modules, the key."""

import shutil

from lab.clock import timed

from . import image

# The versions that the stand-in driver is there in; tests upgrade from the first to the second.
DRIVERS = ("580.95.05", "595.45.04")
SIZE = "128M"
MODULES = "/usr/lib/lab/modules"
PROGRAM = "/usr/lib/lab/holdfast-sim"


def lay_out(lab, folder):
    """What every seed has. Its folders are root's alone to write, like those that they are laid over."""
    shutil.copytree(lab.own.installation, folder, symlinks=True)
    (folder / "root/.ssh").mkdir(parents=True)
    (folder / "root").chmod(0o700)
    shutil.copy(f"{lab.key}.pub", folder / "root/.ssh/authorized_keys")
    (folder / PROGRAM.lstrip("/")).parent.mkdir(parents=True)
    shutil.copy(lab.build / "sim/holdfast-sim", folder / PROGRAM.lstrip("/"))


def make(lab, modules):
    """The disk's file."""
    folder, file = lab.folder / "vm.seed", lab.folder / "vm.seed.img"
    with timed("virtual machine's disk"):
        lay_out(lab, folder)
        for module in sorted(modules.glob("*/*.ko")):
            target = folder / MODULES.lstrip("/") / module.parent.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(module, target)
        image.make_disk(file, folder, SIZE)
    return file
