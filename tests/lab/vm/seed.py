# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The seed: files of a single run that are copied over the image at boot (the build, modules, the key)."""

import shutil

from lab.clock import timed

from . import image

# The versions of the stand-in driver. Tests upgrade from the first to the second.
DRIVERS = ("580.95.05", "595.45.04")
SIZE = "128M"
MODULES = "/usr/lib/lab/modules"
PROGRAM = "/usr/lib/lab/holdfast-sim"


def lay_out(lab, folder):
    """Fills a folder with the files of every seed. Only root may write to its folders, as to those on the image."""
    shutil.copytree(lab.own.installation, folder, symlinks=True)
    (folder / "root/.ssh").mkdir(parents=True)
    (folder / "root").chmod(0o700)
    shutil.copy(f"{lab.key}.pub", folder / "root/.ssh/authorized_keys")
    (folder / PROGRAM.lstrip("/")).parent.mkdir(parents=True)
    shutil.copy(lab.build / "sim/holdfast-sim", folder / PROGRAM.lstrip("/"))


def make(lab, modules):
    """Makes the disk; returns its file."""
    folder, file = lab.folder / "vm.seed", lab.folder / "vm.seed.img"
    with timed("virtual machine's disk"):
        lay_out(lab, folder)
        for module in sorted(modules.glob("*/*.ko")):
            target = folder / MODULES.lstrip("/") / module.parent.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(module, target)
        image.make_disk(file, folder, SIZE)
    return file
