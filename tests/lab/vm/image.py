# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What the virtual machine boots from: kernel, initial file system and disk, made once and kept."""

import hashlib
import shutil
from pathlib import Path

from lab import base, cache
from lab.clock import timed

from . import kernel

HERE = Path(__file__).resolve().parent
# Needed before the root file system is there, and after.
EARLY_MODULES = ("virtio_pci", "virtio_blk", "virtio_net")
LATER_MODULES = ("autofs4", "cuse")
ENABLED = {"lab-network.service": "sysinit.target", "lab-booted.service": "multi-user.target"}
# Under emulation each second of these is one of every run, and nobody here is served by them: modules that are not
# there, devices that were there before udev, profiles (a test loads the one that it is about), sessions.
MASKED = ("apparmor.service", "modprobe@.service", "proc-sys-fs-binfmt_misc.automount", "serial-getty@.service",
          "systemd-binfmt.service", "systemd-logind.service", "systemd-udev-trigger.service")
DISK_SIZE = "1G"


def make_disk(file, folder, size):
    """A file system in a file, with a folder's content."""
    kernel.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", folder, file, size])


def make_initial(file, folder, version, unpacked):
    """The first file system: what loads the modules that the disks need."""
    for name in ("bin", "dev", "modules", "proc", "root", "seed", "sys"):
        (folder / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin")
    (folder / "bin/sh").symlink_to("busybox")
    shutil.copy(HERE / "init", folder)
    for number, module in enumerate(kernel.module_files(unpacked, version, EARLY_MODULES)):
        shutil.copy(module, folder / f"modules/{number:02}-{module.name}")
    file.write_bytes(kernel.run(["sh", "-c", "find . | cpio --create --format=newc --quiet | gzip -1"], cwd=folder))


def prepare(root, version, unpacked):
    """A node's root file system becomes that of a machine which has a kernel and needs no simulation at its paths."""
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
    """For a with statement: a folder with vmlinuz, initrd and root.img. Never to be written to. One is kept of each
    kind."""
    decides = hashlib.sha256(f"{root} {version}".encode())
    for file in (Path(__file__), HERE / "init", *sorted(path for path in (HERE / "tree").rglob("*") if path.is_file())):
        decides.update(file.read_bytes())
    return cache.kept(kind, decides, lambda folder: make(folder, root, version))
