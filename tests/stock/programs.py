# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""NVIDIA's programs and libraries from Debian's packages: downloaded by apt with the lab's own sources and unpacked into its
cache, never installed."""

import hashlib
import re

from lab import archive, cache
from lab.clock import timed

NAMES = ("nvidia-smi", "libnvidia-ml1", "libnvidia-cfg1", "nvidia-persistenced", "python3-pynvml")
COMPONENTS = ("main", "contrib", "non-free")
# Which suites have each branch of the driver, in order of preference.
SUITES = {"535": ("bookworm",), "550": ("trixie", "bookworm-backports"), "555": ("experimental",)}
# Branches in Debian's releases. Experimental may lose its branch any day, so it is tested only on request.
STABLE = ("535", "550")
# The archive has no daemon and no Python binding for some branches. Those of this branch are used: neither depends on the
# driver's version.
LENDER = "550"


def _find(branch):
    """Returns [(suite, {package: version})]: the packages of this branch in the archive, and missing ones from LENDER."""
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
    """A context manager: the folder into which the programs were unpacked."""
    with cache.locked("apt"):
        found = _find(branch)
        decides = hashlib.sha256(repr([sorted(versions.items()) for _, versions in found]).encode())

    def make(folder):
        with cache.locked("apt"), timed(f"NVIDIA's programs {found[0][1]['nvidia-smi']} (download)"):
            for suite, versions in found:
                suite.download(folder, *(f"{name}={version}" for name, version in versions.items()))
    return cache.kept(f"stock-{branch}", decides, make)


class Programs:
    """The unpacked programs of a branch."""

    def __init__(self, branch, folder):
        self.branch = branch
        self.folder = folder
        self.smi = folder / "usr/lib/nvidia/current/nvidia-smi"
        self.daemon = folder / "usr/bin/nvidia-persistenced"
        self.libraries = next(folder.glob("usr/lib/*/nvidia/current/libnvidia-ml.so.1")).parent
        self.python = folder / "usr/lib/python3/dist-packages"
        # The driver's version to which they belong: "550.163.01".
        self.version = re.search(r"\.so\.([\d.]+)$", str((self.libraries / "libnvidia-ml.so.1").resolve()))[1]

    @property
    def environment(self):
        return {"LD_LIBRARY_PATH": str(self.libraries), "PYTHONPATH": str(self.python)}
