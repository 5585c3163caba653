# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Where the simulator is known to differ from NVIDIA's code: {test: (branches, what it does)}. Each entry is a fault of
the simulator that waits for its cure."""

BOTH = ("535", "550")
KNOWN = {
    "test_a_control_of_an_object_that_is_not_there_is_0x57": (BOTH, "0x40"),
    "test_a_hanging_teardown_stalls_opens_of_other_gpus": (BOTH, "it hangs outside the driver's lock"),
    "test_a_process_that_exits_with_a_deferred_open_waits_for_it": (("550",), "its exit is over at once"),
    "test_a_root_client_on_a_gpus_file_is_einval": (BOTH, "it is made"),
    "test_gpus_are_initialised_at_the_same_time_where_the_driver_does_that": (("535",), "they overlap"),
    "test_initialisations_of_different_gpus_overlap_from_550_on": (("535",), "they overlap"),
    "test_the_status_of_a_gpu_is_told_behind_the_list_of_devices": (("550",), "it is told at once"),
    "test_while_a_gpu_initialises_nvidiactl_opens_from_550_on": (("535",), "it opens"),
    "test_while_a_gpu_initialises_others_open_from_550_on": (("535",), "they open"),
}


def known(test, version):
    """Why that test may fail on the simulator of that version, or None."""
    branches, reason = KNOWN.get(test, ((), None))
    return reason if version.split(".")[0] in branches else None
