# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Where the simulator is known to differ from NVIDIA's code: {test: (branches, what it does)}. Each entry is a fault of
the simulator that waits for its cure."""

BOTH = ("535", "550")
KNOWN = {
    "test_a_release_of_one_gpu_beside_another_that_hangs_takes_under_3_seconds": (
        ("535",), "no fault: before 550 the driver itself keeps any teardown behind any initialisation"),
}


def known(test, version):
    """Why that test may fail on the simulator of that version, or None."""
    branches, reason = KNOWN.get(test, ((), None))
    return reason if version.split(".")[0] in branches else None
