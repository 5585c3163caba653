# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Where the simulator is known to differ from NVIDIA's code: {test: (branches, what it does)}. Each entry is a fault of
the simulator that waits for its cure."""

KNOWN = {}


def known(test, version):
    """Why that test may fail on the simulator of that version, or None."""
    branches, reason = KNOWN.get(test, ((), None))
    return reason if version.split(".")[0] in branches else None
