# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""NVIDIA's programs and libraries as Debian packages them: fetched by apt with sources of the lab's own, unpacked into its
cache, never installed."""

import hashlib
import re

from lab import archive, cache
from lab.clock import timed

NAMES = ("nvidia-smi", "libnvidia-ml1", "libnvidia-cfg1", "nvidia-persistenced", "python3-pynvml")
COMPONENTS = ("main", "contrib", "non-free")
# Where each branch of the driver is, the first choice first.
SUITES = {"535": ("bookworm",), "550": ("trixie", "bookworm-backports"), "555": ("experimental",)}
# Those of releases. What is in experimental may be gone tomorrow: it is tested when it is asked for.
STABLE = ("535", "550")
# Whose daemon and Python binding are used with a branch of which the archive has none: neither depends on the version.
LENDER = "550"


def _find(branch):
    """[(suite, {package: version})]: what the archive has of that branch today, and what it lacks of another."""
    for name in SUITES[branch]:
        suite = archive.Suite(name, COMPONENTS).update()
        versions = {package: suite.version(package) for package in NAMES}
        if (versions["nvidia-smi"] or "").split(".")[0] != branch:
            continue
        found = [(suite, {package: version for package, version in versions.items() if version})]
        if len(found[0][1]) < len(NAMES) and branch != LENDER:
            lender, lent = _find(LENDER)[0]
            found.append((lender, {package: lent[package] for package in NAMES if not versions[package]}))
        return found
    raise archive.Unavailable(f"nvidia-smi {branch} is not in {' or '.join(SUITES[branch])} (non-free) of this machine's "
                              "archive.")


def used(branch):
    """For a with statement: the folder they are unpacked in."""
    with cache.locked("apt"):
        found = _find(branch)
        decides = hashlib.sha256(repr([sorted(versions.items()) for _, versions in found]).encode())

    def make(folder):
        with cache.locked("apt"), timed(f"NVIDIA's programs {found[0][1]['nvidia-smi']} (download)"):
            for suite, versions in found:
                suite.download(folder, *(f"{name}={version}" for name, version in versions.items()))
    return cache.kept(f"stock-{branch}", decides, make)


class Programs:
    """Unpacked."""

    def __init__(self, branch, folder):
        self.branch = branch
        self.folder = folder
        self.smi = folder / "usr/lib/nvidia/current/nvidia-smi"
        self.daemon = folder / "usr/bin/nvidia-persistenced"
        self.libraries = next(folder.glob("usr/lib/*/nvidia/current/libnvidia-ml.so.1")).parent
        self.python = folder / "usr/lib/python3/dist-packages"
        # The driver's version that they belong to: "550.163.01".
        self.version = re.search(r"\.so\.([\d.]+)$", str((self.libraries / "libnvidia-ml.so.1").resolve()))[1]

    @property
    def environment(self):
        return {"LD_LIBRARY_PATH": str(self.libraries), "PYTHONPATH": str(self.python)}
