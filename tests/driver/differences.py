# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Known differences between the simulator and NVIDIA's code: {test: (branches, what it does)}. Each entry is a fault of the
simulator that must be fixed."""

KNOWN = {}


def known(test, version):
    """Returns why this test may fail on the simulator of this version, or None."""
    branches, reason = KNOWN.get(test, ((), None))
    return reason if version.split(".")[0] in branches else None
