# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Builds NVIDIA's modules with our hooks (module/hooks.c), and the module of the fake GPUs. They are built once and kept."""

import contextlib
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from lab import cache
from lab.clock import timed
from vm import kernel

from . import package

SOURCE = Path(__file__).resolve().parent / "module"
MODULES = ("lab_gpus.ko", "nvidia.ko", "nvidia-uvm.ko")
# The functions that hooks.c replaces.
REPLACED = (
    "RmDisableAdapter",
    "RmGetAdapterStatus",
    "RmInitAdapter",
    "RmPartiallyDisableAdapter",
    "RmPartiallyInitAdapter",
    "RmShutdownAdapter",
    "osHandleGpuLost",
    "rm_disable_gpu_state_persistence",
    "rm_free_private_state",
    "rm_init_private_state",
)
# Since this version the driver releases its lock while a GPU's firmware boots.
BOOTS_WITHOUT_LOCK = (550, 40, 7)


class DoesNotBuild(Exception):
    """One sentence with the package, the kernel, and the path of the log."""


def numbers(version):
    """550.163.01-2: (550, 163, 1)."""
    return tuple(int(part) for part in version.split("-")[0].split("."))


class Build:
    """The build of one package for one kernel, in a folder."""

    def __init__(self, folder, version, release):
        self.folder = folder
        self.version = version
        self.release = release
        self._log = cache.FOLDER / f"driver-{version}-{release}.log"
        self._log.write_text("")

    def _run(self, *command, **how):
        with self._log.open("a") as log:
            done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                  check=False, **how)
        if done.returncode != 0:
            raise DoesNotBuild(f"{package.NAME} {self.version} does not build for kernel {self.release}; "
                               f"the log is {self._log}.")

    def _headers(self):
        """Unpacks the kernel's headers, which Debian has in two packages; returns their folders (source, output)."""
        output = kernel.unpack_headers(self.folder / "headers", self.release)
        source = re.search(r"^include (\S+)/Makefile", (output / "Makefile").read_text(), re.MULTILINE)
        return Path(source[1]), output

    def _replace(self, driver):
        """Weakens the compiled functions, so that ours replace them."""
        compiled = driver / "nvidia/nv-kernel.o_binary"
        symbols = subprocess.run(["nm", compiled], capture_output=True, text=True, check=True).stdout
        missing = [name for name in REPLACED if not re.search(rf" T {name}$", symbols, re.MULTILINE)]
        if missing:
            raise DoesNotBuild(f"{package.NAME} {self.version} has no {', '.join(missing)}, which the lab replaces.")
        self._run("objcopy", *(f"--weaken-symbol={name}" for name in REPLACED), compiled)
        shutil.copy(SOURCE / "hooks.c", driver / "nvidia/lab-hooks.c")
        shutil.copy(SOURCE / "control.h", driver / "nvidia/lab-control.h")
        with (driver / "nvidia/nvidia-sources.Kbuild").open("a") as sources:
            sources.write("NVIDIA_SOURCES += nvidia/lab-hooks.c\n")

    @staticmethod
    def _follow_kernel(driver, source):
        """Adds the fourth argument of pci_resize_resource() on newer kernels. Older packages do not pass it."""
        declared = re.search(r"pci_resize_resource\(([^)]*)\);", (source / "include/linux/pci.h").read_text())
        if declared and declared[1].count(",") == 3:
            file = driver / "nvidia/nv-pci.c"
            three = r"pci_resize_resource\(([^,()]+,[^,()]+,[^,()]+)\)"
            file.write_text(re.sub(three, r"pci_resize_resource(\1, 0)", file.read_text()))

    def make(self):
        source, output = self._headers()
        ours = self.folder / "ours"
        shutil.copytree(SOURCE, ours)
        self._run("make", "-C", output, f"M={ours}", "modules")
        driver = next((self.folder / "package").glob("usr/src/nvidia-*"))
        self._replace(driver)
        self._follow_kernel(driver, source)
        # Without debugging information the build takes a fifth of the time and space.
        flags = "-g0" + (" -DLAB_BOOTS_WITHOUT_LOCK" if numbers(self.version) >= BOOTS_WITHOUT_LOCK else "")
        self._run("make", "-C", driver, "-j2", "modules", f"SYSSRC={source}", f"SYSOUT={output}", f"KCFLAGS={flags}",
                  "NV_KERNEL_MODULES=nvidia nvidia-uvm", f"KBUILD_EXTRA_SYMBOLS={ours / 'Module.symvers'}")
        for name in MODULES:
            self._run("strip", "--strip-debug", (ours if name == "lab_gpus.ko" else driver) / name)
            shutil.copy((ours if name == "lab_gpus.ko" else driver) / name, self.folder)


def make(folder, suite, version, release):
    folder.mkdir()
    with timed("NVIDIA's driver (download)"), cache.locked("apt"):
        suite.download(folder / "package", f"{package.NAME}={version}")
    with timed("NVIDIA's driver (gcc)"):
        Build(folder, version, release).make()
    for name in ("headers", "ours", "package"):
        shutil.rmtree(folder / name)


@contextlib.contextmanager
def used(branch, release):
    """A folder with MODULES of that branch for that kernel, and the driver's version. It must not be written to."""
    with cache.locked("apt"):
        suite, version = package.find(branch)
    decides = hashlib.sha256(f"{version} {release}".encode())
    for file in (Path(__file__), *sorted(SOURCE.iterdir())):
        decides.update(file.read_bytes())
    with cache.kept(f"driver-{branch}", decides, lambda folder: make(folder, suite, version, release)) as folder:
        yield folder, version.split("-")[0]
