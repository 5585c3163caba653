# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""NVIDIA's nvidia-smi (tests/stock) on a node whose real unit runs our daemon: the handbook's commands, word for word, and
resets."""

import re
import sys
from pathlib import Path

import pytest

from harness.simulator import QUICK

sys.path.append(str(Path(__file__).resolve().parent.parent / "stock"))

import programs  # found by the line above

SERVICE, SOCKET = "nvidia-persistenced.service", "nvidia-persistenced.socket"
FOLDER = "/usr/lib/lab/nvidia"
QUERY = "nvidia-smi --query-gpu=index,name,persistence_mode --format=csv"
# The simulator's nodes are files. In the mount namespace that `exec` makes NVML takes them for devices. The rest of the node
# stays the same.
COMMAND = """#!/bin/sh
LD_LIBRARY_PATH={libraries} exec /usr/lib/lab/holdfast-sim exec --root /srv/gpus -- {smi} "$@"
"""


def put_nvidia_smi(node, stock):
    def there(path):
        return f"{FOLDER}/{path.relative_to(stock.folder)}"

    for file in (stock.smi, *stock.libraries.glob("libnvidia-ml.so*")):
        node.put(file, there(file))
    node.put(node.release.simulator.parent / "exec/libholdfast-sim-stat.so", "/usr/lib/lab/exec/libholdfast-sim-stat.so")
    node.write("/usr/local/bin/nvidia-smi", COMMAND.format(libraries=there(stock.libraries), smi=there(stock.smi)), 0o755)


@pytest.fixture(params=programs.STABLE, scope="module")
def stock(request):
    with programs.used(request.param) as folder:
        yield programs.Programs(request.param, folder)


@pytest.fixture
def handbook(bare_node, stock):
    """A node with a driver of the programs' version, nvidia-smi, and our unit enabled as handbooks say."""
    node = bare_node.simulate(defaults=QUICK + f"[driver]\nversion = {stock.version}\n").install()
    put_nvidia_smi(node, stock)
    node.exec("systemctl", "enable", "--now", SERVICE)
    return node


def bus_id(node, gpu):
    return f"0000{node.gpus.addresses[gpu].upper()}"


def modes(node):
    return [line.split(", ")[2] for line in node.exec(QUERY).splitlines()[1:]]


def flags(node):
    """Returns the kernel's legacy flag of each GPU."""
    return [gpu["legacy"] for gpu in node.gpus.status()["gpus"]]


def said(words, node, *gpus):
    return "".join(f"{words} for GPU {bus_id(node, gpu)}.\n" for gpu in gpus) + "All done.\n"


def reset(node):
    return f"GPU {bus_id(node, 0)} was successfully reset.\nAll done.\n"


def test_the_handbooks_commands_under_the_real_unit(handbook):
    node = handbook
    assert len(re.findall(r" Simulated H100 80GB +On +\|", node.exec("nvidia-smi"))) == 2
    assert node.exec(QUERY) == ("index, name, persistence_mode\n"
                                "0, Simulated H100 80GB, Enabled\n1, Simulated H100 80GB, Enabled\n")
    assert node.exec("nvidia-smi -q | grep -c 'Persistence Mode *: Enabled'") == "2\n"
    assert node.exec("nvidia-smi -pm 1") == said("Persistence mode is already Enabled", node, 0, 1)
    assert node.exec("nvidia-smi -pm 0") == said("Disabled persistence mode", node, 0, 1)
    node.gpus.wait_users(0, 0)
    assert modes(node) == ["Disabled", "Disabled"]
    assert node.exec("nvidia-smi -i 1 -pm ENABLED") == said("Enabled persistence mode", node, 1)
    assert modes(node) == ["Disabled", "Enabled"] and flags(node) == [False, False]
    assert node.exec("nvidia-smi -pm 1").endswith(said("Enabled persistence mode", node, 0).partition("\n")[2])
    node.gpus.wait_users(1, 1)
    assert node.exec("systemctl", "is-active", SERVICE) == "active\n"


def test_resets_under_the_real_unit(handbook):
    node = handbook
    pid = node.exec("systemctl", "show", "--value", "--property=MainPID", SERVICE)
    assert node.exec("nvidia-smi --gpu-reset -i 0") == reset(node)
    node.gpus.wait_users(1, 1)

    node.exec("nvidia-smi -i 0 -pm 0")
    assert node.exec("nvidia-smi --gpu-reset -i 0") == reset(node)
    # If the daemon opened GPU 0, it would do so before GPU 1.
    node.exec("nvidia-smi -i 1 -pm 0")
    node.exec("nvidia-smi -i 1 -pm 1")
    node.gpus.wait_users(0, 1)
    assert modes(node) == ["Disabled", "Enabled"], "off stays off"

    node.exec("nvidia-smi -i 0 -pm 1")
    assert reset(node) in node.exec("holdfast release --gpu 0 -- nvidia-smi --gpu-reset -i 0")
    node.gpus.wait_users(1, 1)
    assert len(node.gpus.journal("reset")) == 3
    assert node.exec("systemctl", "show", "--value", "--property=MainPID", SERVICE) == pid, "one daemon throughout"


def test_while_the_unit_is_stopped_nvidia_smi_uses_the_legacy_flag_and_starts_no_daemon(handbook):
    node = handbook
    node.exec("systemctl", "stop", SERVICE)
    node.gpus.wait_users(0, 0)
    assert modes(node) == ["Disabled", "Disabled"]
    assert node.exec("nvidia-smi -pm 1") == said("Enabled persistence mode", node, 0, 1)
    assert flags(node) == [True, True] and modes(node) == ["Enabled", "Enabled"]
    assert [node.try_exec("systemctl", "is-active", unit).out for unit in (SERVICE, SOCKET)] == ["inactive\n", "inactive\n"]
    node.exec("systemctl", "start", SERVICE)
    assert node.exec("nvidia-smi -pm 0") == said("Disabled persistence mode", node, 0, 1)
    node.gpus.wait_users(0, 0)
    assert flags(node) == [False, False]
