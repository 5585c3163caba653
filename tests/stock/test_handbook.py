# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The commands of the handbook, word for word, with our daemon, with NVIDIA's, and without one."""

import json
import re

import pytest

from node import DAEMON, NOBODY

INSUFFICIENT_PERMISSIONS = 4


@pytest.fixture(params=["none", "ours", "theirs"])
def daemon(request, node):
    """Starts a daemon, which holds every GPU, or none, and says which one it is."""
    node.start(request.param)
    return request.param


def flags(node):
    """Returns the kernel's legacy flag of each GPU."""
    return [gpu["legacy"] for gpu in node.sim.status()["gpus"]]


def bus_ids(node):
    """Returns the addresses as nvidia-smi prints them."""
    return [f"0000{address}".upper() for address in node.gpus]


def told(words, node, gpus=(0, 1)):
    return [f"{words} for GPU {bus_ids(node)[gpu]}." for gpu in gpus] + ["All done."]


def enabled(node, daemon):
    """Returns what nvidia-smi says after it has enabled the mode; 555 adds the way: via the daemon, or the legacy flag."""
    if node.stock.branch != "555":
        return "Enabled persistence mode"
    return "Enabled Legacy persistence mode" if daemon == "none" else "Enabled persistence mode via daemon"


def is_hidden(node, daemon):
    """Whether only root may use the daemon's socket, as with Debian's daemon of 550, which is also used with 555."""
    return daemon == "theirs" and node.stock.branch in ("550", "555")


def test_the_table_shows_the_persistence_mode(node, daemon):
    status, lines = node.smi()
    rows = [line for line in lines if "Simulated" in line]
    assert status == 0 and len(rows) == 2
    assert all(re.search(r" Simulated H100 80GB +(On|Off) +\|", row)[1] == ("Off" if daemon == "none" else "On") for row in rows)
    assert f"Driver Version: {node.stock.version}" in "\n".join(lines)


def test_the_list_has_the_same_names_and_uuids_as_holdfast_status(node):
    node.world.start()
    gpus = json.loads(node.holdfast("status", "--json").out)["gpus"]
    assert node.smi("-L") == (0, [f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})" for gpu in gpus])


def test_a_query_prints_the_persistence_mode_of_each_gpu(node, daemon):
    mode = "Disabled" if daemon == "none" else "Enabled"
    assert node.smi("--query-gpu=index,name,persistence_mode", "--format=csv") == (0, [
        "index, name, persistence_mode", f"0, Simulated H100 80GB, {mode}", f"1, Simulated H100 80GB, {mode}"])


def test_the_long_form_shows_the_persistence_mode(node, daemon):
    status, lines = node.smi("-q")
    modes = [line.split(":")[1].strip() for line in lines if line.strip().startswith("Persistence Mode")]
    assert status == 0 and modes == ["Disabled" if daemon == "none" else "Enabled"] * 2


def test_off_and_on_change_the_mode_and_say_so(node, daemon):
    if daemon == "none":
        assert node.smi("-pm", "1") == (0, told(enabled(node, daemon), node))
        assert flags(node) == [True, True]
    assert node.modes() == ["Enabled", "Enabled"]
    assert node.smi("-pm", "1") == (0, told("Persistence mode is already Enabled", node))
    assert node.smi("-pm", "0") == (0, told("Disabled persistence mode", node))
    assert node.modes() == ["Disabled", "Disabled"] and flags(node) == [False, False]
    node.wait_holders([], [])
    assert node.smi("-pm", "0") == (0, told("Persistence mode is already Disabled", node))
    assert node.smi("-pm", "1") == (0, told(enabled(node, daemon), node))
    assert node.modes() == ["Enabled", "Enabled"]
    if daemon != "none":
        assert flags(node) == [False, False], "nvidia-smi asks the daemon, and leaves the deprecated flag alone"
        node.wait_holders([DAEMON], [DAEMON])  # nvidia-smi has opened them, too


def test_one_gpu_is_named_by_index_address_or_uuid(node, daemon):
    uuid = node.sim.gpu(node.gpus[1])["uuid"]
    for name in "1", bus_ids(node)[1], uuid:
        node.smi("-pm", "0")
        assert node.smi("-i", name, "-pm", "ENABLED") == (0, told(enabled(node, daemon), node, [1]))
        assert node.modes() == ["Disabled", "Enabled"]
    assert node.smi("-i", "7", "-pm", "ENABLED") == (6, ["No devices were found"])


def test_without_root_nvidia_smi_refuses_a_change(node, daemon):
    before = node.modes()
    status, lines = node.smi("-pm", "1" if daemon == "none" else "0", user=NOBODY)
    if is_hidden(node, daemon):
        assert lines == told("Persistence mode is already Disabled", node)
    else:
        assert status == INSUFFICIENT_PERMISSIONS and "Insufficient Permissions" in "\n".join(lines)
    assert node.modes() == before


def test_without_root_nvidia_smi_reports_the_mode(node, daemon):
    assert node.smi("--query-gpu=persistence_mode", "--format=csv,noheader", user=NOBODY) == (
        0, ["Disabled", "Disabled"] if is_hidden(node, daemon) else node.modes())


# Fields of both programs. holdfast query has more.
FIELDS = ("driver_version", "count", "index", "name", "gpu_name", "uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id", "pci.domain",
          "pci.bus", "pci.device", "vbios_version", "persistence_mode")


def test_holdfast_query_prints_what_nvidia_smi_prints(node, daemon):
    node.smi("-i", "1", "-pm", "0")
    words = [f"--query-gpu={','.join(FIELDS)}"]
    for form in "csv", "csv,noheader", "csv,noheader,nounits":
        status, lines = node.smi(*words, f"--format={form}")
        assert status == 0
        assert node.holdfast("query", *words, f"--format={form}").out.splitlines() == lines


def test_the_compared_fields_and_the_time_are_all_that_both_programs_have(node):
    theirs = {name for line in node.smi("--help-query-gpu")[1] if line.startswith('"') for name in line.split('"')[1::2]}
    listed = node.holdfast("query", "--list-fields").out
    ours = {*re.findall(r"^  (\S+)", listed, re.MULTILINE), *re.findall(r"\(also (\S+)\)", " ".join(listed.split()))}
    assert theirs & ours == {*FIELDS, "timestamp"}


def test_holdfast_query_prints_the_time_in_the_format_of_nvidia_smi(node):
    words = ("--query-gpu=timestamp", "--format=csv")
    status, theirs = node.smi(*words)
    ours = node.holdfast("query", *words).out.splitlines()
    assert status == 0 and [len(theirs), theirs[0]] == [len(ours), ours[0]]
    for line in theirs[1:] + ours[1:]:
        assert re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}", line)


def test_holdfast_set_uses_nvml_if_there_is_no_daemon(node):
    library = node.stock.libraries / "libnvidia-ml.so.1"
    done = node.run(node.world.build / "src/cli/holdfast", "set", "on", "--gpu=0", f"--nvml={library}")
    assert done.returncode == 0, done.stdout
    assert flags(node) == [True, False] and node.modes() == ["Enabled", "Disabled"]


PYNVML = """
import pynvml as nvml
nvml.nvmlInit()
gpus = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
nvml.nvmlDeviceSetPersistenceMode(gpus[0], 0)
print([nvml.nvmlDeviceGetPersistenceMode(gpu) for gpu in gpus])
nvml.nvmlDeviceSetPersistenceMode(gpus[0], 1)
print([nvml.nvmlDeviceGetPersistenceMode(gpu) for gpu in gpus])
"""


def test_the_mode_can_be_changed_through_debians_python_binding(node, daemon):
    if daemon == "none":
        node.smi("-pm", "1")
    assert node.python(PYNVML).splitlines() == ["[0, 1]", "[1, 1]"]
    assert node.modes() == ["Enabled", "Enabled"]
