# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The kernel, initial file system and disk of the virtual machine, made once and kept."""

import hashlib
import shutil
from pathlib import Path

from lab import base, cache
from lab.clock import timed

from . import kernel

HERE = Path(__file__).resolve().parent
# Modules that are needed before the root file system is mounted, and after.
EARLY_MODULES = ("virtio_pci", "virtio_blk", "virtio_net")
LATER_MODULES = ("autofs4", "cuse")
ENABLED = {"lab-network.service": "sysinit.target", "lab-booted.service": "multi-user.target"}
# These units take seconds under emulation and are of no use here: modules that do not exist, devices that exist before udev
# starts, AppArmor profiles (a test loads the profile that it checks), sessions.
MASKED = ("apparmor.service", "modprobe@.service", "proc-sys-fs-binfmt_misc.automount", "serial-getty@.service",
          "systemd-binfmt.service", "systemd-logind.service", "systemd-udev-trigger.service")
DISK_SIZE = "1G"


def make_disk(file, folder, size):
    """Makes a file system in a file, with a folder's content."""
    kernel.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", folder, file, size])


def make_initial(file, folder, version, unpacked):
    """Makes the initial file system, which loads the modules that the disks need."""
    for name in ("bin", "dev", "modules", "proc", "root", "seed", "sys"):
        (folder / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin")
    (folder / "bin/sh").symlink_to("busybox")
    shutil.copy(HERE / "init", folder)
    for number, module in enumerate(kernel.module_files(unpacked, version, EARLY_MODULES)):
        shutil.copy(module, folder / f"modules/{number:02}-{module.name}")
    file.write_bytes(kernel.run(["sh", "-c", "find . | cpio --create --format=newc --quiet | gzip -1"], cwd=folder))


def prepare(root, version, unpacked):
    """Adapts a node's root file system: adds modules and units, and removes the simulation at the real paths."""
    for path in base.TREE.rglob("*"):
        if not path.is_dir():
            (root / path.relative_to(base.TREE)).unlink()
    shutil.copytree(HERE / "tree", root, dirs_exist_ok=True)
    units = root / "etc/systemd/system"
    for unit, target in ENABLED.items():
        (units / f"{target}.wants").mkdir(exist_ok=True)
        (units / f"{target}.wants" / unit).symlink_to(f"../{unit}")
    for unit in MASKED:
        (units / unit).symlink_to("/dev/null")
    for module in kernel.module_files(unpacked, version, (*EARLY_MODULES, *LATER_MODULES)):
        target = root / "usr" / module.relative_to(unpacked)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, target)
    for name in ("modules.builtin", "modules.order"):
        shutil.copy(unpacked / "lib/modules" / version / name, root / "usr/lib/modules" / version)
    kernel.run(["depmod", "--basedir", root, version])


def make(folder, root, version):
    folder.mkdir()
    work = folder / "work"
    work.mkdir()
    unpacked = work / "kernel"
    with timed("kernel (download, unpack)"):
        kernel.unpack_image(unpacked, version)
    with timed("virtual machine's disk"):
        shutil.copy(unpacked / f"boot/vmlinuz-{version}", folder / "vmlinuz")
        make_initial(folder / "initrd", work / "initial", version, unpacked)
        kernel.run(["cp", "--archive", root, work / "root"])
        prepare(work / "root", version, unpacked)
        make_disk(folder / "root.img", work / "root", DISK_SIZE)
        shutil.rmtree(work)


def used(root, version, kind="vm"):
    """For a with statement: a folder with vmlinuz, initrd and root.img. It must not be written to. The cache keeps one of
    each kind."""
    decides = hashlib.sha256(f"{root} {version}".encode())
    for file in (Path(__file__), HERE / "init", *sorted(path for path in (HERE / "tree").rglob("*") if path.is_file())):
        decides.update(file.read_bytes())
    return cache.kept(kind, decides, lambda folder: make(folder, root, version))
