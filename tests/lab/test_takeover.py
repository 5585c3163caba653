# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast takeover on a real systemd: a driver package's unit runs our daemon, and its own again after --undo. No GPU that was
initialised is torn down."""

import pytest

from harness.events import wait_until
from lab.packages import install, remove

UNIT = "nvidia-persistenced.service"
THEIRS = "/usr/bin/nvidia-persistenced"
OURS = "/usr/libexec/holdfast/nvidia-persistenced"
DRIVER = "nvidia-compute-utils-595"
LINKS = ("/etc/systemd/system/nvidia-persistenced.service.d/50-holdfast.conf",
         "/etc/systemd/system/nvidia-persistenced.socket")


@pytest.fixture
def ubuntu(bare_node, packages, lab):
    """A node with Holdfast's package and a driver package whose daemon holds both GPUs."""
    bare_node.simulate()
    install(bare_node, packages.drivers(DRIVER))
    install(bare_node, packages.file("holdfast"))
    assert program(bare_node) == THEIRS
    assert_warm(bare_node)
    return bare_node


def program(node):
    pid = node.exec("systemctl", "show", "--property=MainPID", "--value", UNIT).strip()
    return node.exec("readlink", f"/proc/{pid}/exe").strip()


def teardowns(node):
    return [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]]


def assert_warm(node):
    node.gpus.wait_users(1, 1)
    assert teardowns(node) == [0, 0]


def taken(node):
    assert "2 GPUs stayed initialised meanwhile" in node.exec("holdfast", "takeover")
    assert program(node) == OURS
    assert_warm(node)
    return node


def test_the_unit_runs_our_daemon_with_our_sandbox_and_no_gpu_is_torn_down(ubuntu):
    taken(ubuntu)
    properties = ubuntu.exec("systemctl", "show", UNIT, "--property=Type,User,NoNewPrivileges,ExecStopPost,PIDFile,"
                             "RemainAfterExit,Environment,ExecStartPre")
    assert "ExecStartPre={ path=/bin/true" not in properties
    assert {line for line in properties.splitlines() if not line.startswith("ExecStartPre=")} == {
        "Type=notify", "User=nvidia-persistenced", "NoNewPrivileges=yes", "PIDFile=", "RemainAfterExit=no", "Environment="}
    assert ubuntu.exec("systemctl", "is-active", UNIT, "nvidia-persistenced.socket").split() == ["active", "active"]
    assert "OK" in ubuntu.exec("holdfast", "check")
    assert ubuntu.exec("holdfast", "takeover", "--status").startswith(f"{UNIT} is another package's, and taken over")
    assert "already" in ubuntu.exec("holdfast", "takeover")


def test_a_takeover_outlives_reboots_and_upgrades_of_either_package(ubuntu, packages, lab):
    taken(ubuntu)
    install(ubuntu, packages.newer("holdfast"))
    assert program(ubuntu) == OURS
    assert_warm(ubuntu)
    install(ubuntu, packages.drivers(DRIVER, version="595.99.01"))
    assert program(ubuntu) == OURS
    assert_warm(ubuntu)
    ubuntu.reboot()
    assert program(ubuntu) == OURS
    assert_warm(ubuntu)


def test_undo_restores_the_units_own_program_and_tears_no_gpu_down(ubuntu):
    taken(ubuntu)
    assert "has its own program back" in ubuntu.exec("holdfast", "takeover", "--undo")
    assert program(ubuntu) == THEIRS
    assert_warm(ubuntu)
    for path in LINKS:
        assert ubuntu.try_exec("test", "-L", path).status == 1
    ubuntu.exec("systemctl", "stop", UNIT)
    wait_until(lambda: teardowns(ubuntu) == [1, 1], "the teardowns: our keeper has ended", 20)


def test_removing_holdfast_undoes_the_takeover(ubuntu):
    taken(ubuntu)
    remove(ubuntu, "holdfast", purge=True)
    assert program(ubuntu) == THEIRS
    assert_warm(ubuntu)
    assert ubuntu.exec("find", "/etc/systemd/system", "-name", "*holdfast*") == ""
    assert ubuntu.exec("systemctl", "--failed", "--no-legend") == ""


def test_without_our_files_the_links_are_dangling_and_the_unit_runs_its_own_program(ubuntu):
    taken(ubuntu)
    ubuntu.exec("rm", "--recursive", "/usr/share/holdfast/takeover", OURS)
    ubuntu.exec("systemctl", "daemon-reload")
    ubuntu.exec("systemctl", "restart", UNIT)
    assert program(ubuntu) == THEIRS
    assert ubuntu.exec("systemctl", "show", "--property=Type", UNIT) == "Type=forking\n"


def test_if_our_daemon_cannot_start_the_takeover_is_undone_and_no_gpu_is_torn_down(ubuntu):
    ubuntu.exec("chmod", "a-x", OURS)
    result = ubuntu.try_exec("holdfast", "takeover")
    assert result.status == 1 and "the previous state is restored" in result.err, str(result)
    assert program(ubuntu) == THEIRS
    assert_warm(ubuntu)


def test_a_takeover_names_a_drop_in_that_sets_another_program_and_restarts_nothing(ubuntu):
    """Like the drop-in of NVIDIA's Ansible role."""
    override = "/etc/systemd/system/nvidia-persistenced.service.d/override.conf"
    ubuntu.write(override, f"[Service]\nExecStart=\nExecStart={THEIRS} --verbose\n")
    ubuntu.exec("systemctl", "daemon-reload")
    result = ubuntu.try_exec("holdfast", "takeover")
    assert result.status == 1 and override in result.err, str(result)
    assert ubuntu.read(override) and program(ubuntu) == THEIRS
    assert_warm(ubuntu)


def test_a_takeover_leaves_a_masked_unit_alone(ubuntu):
    ubuntu.exec("systemctl", "mask", "--runtime", UNIT)
    result = ubuntu.try_exec("holdfast", "takeover")
    assert result.status == 1 and "systemctl unmask" in result.err, str(result)
    assert_warm(ubuntu)
