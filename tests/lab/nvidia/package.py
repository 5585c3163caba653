# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Debian's package of NVIDIA's open kernel modules, from a component that only the lab's own apt configuration has."""

from lab import archive

NAME = "nvidia-open-kernel-dkms"
# The suites that have each branch of the driver, in order of preference.
SUITES = {"535": ("bookworm",), "550": ("trixie", "bookworm-backports")}

Unavailable = archive.Unavailable


def find(branch):
    """Returns (suite, version) of the archive's current package of that branch."""
    for name in SUITES[branch]:
        suite = archive.Suite(name, ("contrib",)).update()
        version = suite.version(NAME)
        if version and version.split(".")[0] == branch:
            return suite, version
    raise Unavailable(f"{NAME} {branch} is not in {' or '.join(SUITES[branch])} (contrib) of this machine's archive.")
