# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Where the simulator is known to differ from NVIDIA's code: {test: (branches, what it does)}. Each entry is a fault of
the simulator that waits for its cure."""

KNOWN = {
    "test_a_hanging_teardown_stalls_opens_of_gpus_that_are_initialised_as_well": (("535", "550"), "not those"),
}


def known(test, version):
    """Why that test may fail on the simulator of that version, or None."""
    branches, reason = KNOWN.get(test, ((), None))
    return reason if version.split(".")[0] in branches else None
