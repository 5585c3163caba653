# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Unchanged units for NVIDIA's daemon run ours. foreign-units/ has units like those of each distribution."""

from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parent / "foreign-units"
SERVICE = "nvidia-persistenced.service"
PID_FILE = "/var/run/nvidia-persistenced/nvidia-persistenced.pid"
SOCKET = "/var/run/nvidia-persistenced/socket"

# Unit, the daemon's user after its start, and whether it holds GPUs without a Set.
FOREIGN = (
    ("appliance", "nvpd", True),
    ("bottlerocket", "nvidia", True),
    ("debian", "nvpd", True),
    ("fedora", "nvidia-persistenced", True),
    ("nixos", "root", True),
    ("rpm-nvidia", "root", True),
    ("template", "nvidia-persistenced", True),
    ("ubuntu", "nvidia-persistenced", False),
    ("ubuntu-nvidia", "root", False),
)


def property_of(node, name):
    return node.exec("systemctl", "show", f"--property={name}", "--value", SERVICE).strip()


@pytest.fixture
def foreign(node):
    """A node with the users and program paths of distributions. foreign(name) installs the unit."""
    for user in ("nvidia", "nvpd"):
        node.exec("useradd", "--system", "--user-group", user)
    node.exec("mkdir", "-p", "/nix/store/nvidia-persistenced/bin")
    node.exec("ln", "-s", "/usr/bin/nvidia-persistenced", "/nix/store/nvidia-persistenced/bin/")

    def give(name):
        node.put(UNITS / f"{name}.service", f"/etc/systemd/system/{SERVICE}")
        node.exec("systemctl", "daemon-reload")
        return node

    return give


@pytest.mark.parametrize(("name", "user", "holds"), FOREIGN, ids=[name for name, _, _ in FOREIGN])
def test_an_unchanged_unit_for_nvidias_daemon_runs_ours(foreign, name, user, holds):
    node = foreign(name)
    if "[Install]" in (UNITS / f"{name}.service").read_text():
        node.exec("systemctl", "enable", SERVICE)
    else:  # a udev rule would start it; without a dependent unit systemd stops it at once
        node.exec("systemctl", "add-wants", "multi-user.target", SERVICE)

    # The start command returns after an attempt to open every GPU.
    node.exec("systemctl", "start", SERVICE)
    assert node.gpus.users() == ([1, 1] if holds else [0, 0])
    if not holds:
        node.exec("holdfast", "set", "on")
        assert node.gpus.users() == [1, 1]

    pid = property_of(node, "MainPID")
    assert node.read(PID_FILE).strip() == pid
    assert node.exec("ps", "-o", "user:32=,comm=", "-p", pid).split() == [user, "nvidia-persiste"]
    assert "PID file" not in node.journal(unit=SERVICE), "systemd did not find the pid file when it looked"

    node.exec("systemctl", "restart", SERVICE)
    assert property_of(node, "ActiveState") == "active"
    assert property_of(node, "MainPID") != pid

    node.exec("systemctl", "stop", SERVICE)
    assert property_of(node, "Result") == "success"
    node.gpus.wait_released()
    assert node.try_exec("test", "-e", SOCKET).status == 1


def test_the_drop_in_of_nvidias_ansible_role_works_on_our_unit(node):
    """The drop-in replaces the command line of any unit by one with --user root."""
    node.write(f"/etc/systemd/system/{SERVICE}.d/override.conf",
               "[Service]\nExecStart=\n"
               "ExecStart=/usr/bin/nvidia-persistenced --user root --persistence-mode --verbose\n")
    node.exec("systemctl", "daemon-reload")
    node.exec("systemctl", "enable", "--now", SERVICE)
    assert node.gpus.users() == [1, 1]
    assert property_of(node, "Type") == "notify"
    assert "--user root is given" in node.journal(unit=SERVICE)

    node.exec("systemctl", "stop", SERVICE)
    node.gpus.wait_released()
