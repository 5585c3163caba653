# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The commands of operators' handbooks, word for word, on a real systemd, and what they must show."""

import re

import pytest

from harness.events import wait_until

SERVICE = "nvidia-persistenced.service"
PROGRAM = "/usr/bin/nvidia-persistenced"
STARTED = "/usr/libexec/holdfast/nvidia-persistenced"  # another package may own this name in /usr/bin
RESET = "/usr/lib/lab/holdfast-sim ctl --root /srv/gpus reset --gpu 0"  # for nvidia-smi --gpu-reset -i 0


@pytest.fixture
def enabled(node):
    """A node with the unit enabled as handbooks say."""
    node.exec("systemctl", "enable", "--now", SERVICE)
    return node


def problems(node):
    """Returns the checks of `holdfast doctor` that found a problem, by name."""
    checks = node.try_exec("holdfast", "doctor", "--json").json()["checks"]
    return {check["id"]: check for check in checks if check["verdict"] == "problem"}


# ---- installed and running


def test_the_daemon_is_found_by_name_in_usr_bin(node):
    assert node.exec("which", "nvidia-persistenced") == f"{PROGRAM}\n"


def test_enable_now_starts_the_daemon_and_returns_when_the_gpus_are_held(node):
    said = node.try_exec("systemctl", "enable", "--now", SERVICE)
    assert said.status == 0 and "Created symlink" in said.err
    assert node.gpus.users() == [1, 1]
    assert node.exec("systemctl", "is-active", SERVICE) == "active\n"
    assert node.exec("systemctl", "is-enabled", SERVICE) == "enabled\n"


def test_systemctl_status_shows_the_running_unit_the_number_of_held_gpus_and_the_first_lines(enabled):
    said = enabled.exec("systemctl", "status", SERVICE)
    assert "Active: active (running)" in said
    assert 'Status: "2 of 2 GPUs held"' in said
    assert re.search(r"nvidia-persistenced\[\d+\]: Started \(\d+\)", said)


def test_systemctl_cat_shows_a_unit_that_starts_the_usual_path(enabled):
    unit = enabled.exec("systemctl", "cat", SERVICE)
    assert f"\nExecStart=@{STARTED} {PROGRAM} " in unit and "\nUser=nvidia-persistenced\n" in unit


def test_pgrep_and_pidof_find_the_daemon_by_the_usual_name_and_path(enabled):
    """The kernel keeps only 15 characters of a name, so `pgrep` requires -f for the whole name, with NVIDIA's daemon, too."""
    pid = enabled.exec("systemctl", "show", "--value", "--property=MainPID", SERVICE).strip()
    for pattern in (["nvidia-persiste"], ["-f", "^/usr/bin/nvidia-persistenced"]):
        assert enabled.exec("pgrep", "-a", *pattern).startswith(f"{pid} {PROGRAM} ")
    assert pid in enabled.exec("pidof", "nvidia-persistenced").split(), "the daemon and its keeper"
    assert enabled.exec("cat", "/run/nvidia-persistenced/nvidia-persistenced.pid").strip() == pid


# ---- the log


def test_the_journal_has_the_daemons_start_a_line_for_each_gpu_and_its_end(enabled):
    enabled.exec("systemctl", "stop", SERVICE)
    said = enabled.journal(unit=SERVICE)
    pid = re.search(r"^Started \((\d+)\)$", said, re.MULTILINE)[1]
    for address in enabled.gpus.addresses:
        assert f"device {address} - registered\n" in said, "the unit has --verbose"
        assert f"device {address} - persistence mode enabled.\n" in said
    assert f"\nShutdown ({pid})\n" in said
    assert "Deactivated successfully" in said


def test_started_by_hand_with_verbose_the_daemon_logs_a_line_for_each_gpu(node):
    """Without the unit the daemon goes into the background and logs by syslog."""
    node.exec("nvidia-persistenced", "-V")
    said = node.journal("--identifier=nvidia-persistenced")
    for address in node.gpus.addresses:
        assert f"device {address} - persistence mode enabled.\n" in said
    assert node.gpus.users() == [1, 1]
    pid = node.read("/run/nvidia-persistenced/nvidia-persistenced.pid").strip()
    node.exec("kill", pid)
    node.exec("tail", f"--pid={pid}", "-f", "/dev/null")
    assert f"\nShutdown ({pid})\n" in node.journal("--identifier=nvidia-persistenced")
    node.gpus.wait_released()


# ---- reboots


def test_after_a_reboot_the_gpus_are_held_again(enabled):
    enabled.reboot()
    assert enabled.exec("systemctl", "is-active", SERVICE) == "active\n"
    assert enabled.gpus.users() == [1, 1]
    assert enabled.try_exec("holdfast", "check").status == 0
    assert "Deactivated successfully" in enabled.journal("--boot=-1", unit=SERVICE), "a proper stop before the reboot"
    assert "Ready: 2 of 2 GPUs held" in enabled.journal("--boot=0", unit=SERVICE)


def test_after_a_loss_of_power_the_gpus_are_held_again(enabled):
    enabled.exec("sync")
    enabled.cut_power()
    enabled.boot()
    assert enabled.gpus.users() == [1, 1]
    assert enabled.try_exec("holdfast", "check").status == 0


# ---- problems


def test_a_daemon_started_by_hand_as_another_user_can_use_the_units_directory(enabled):
    """The unit's directory belongs to the unit's user. Root changes its owner before the daemon drops privileges."""
    enabled.exec("systemctl", "stop", SERVICE)
    enabled.exec("nvidia-persistenced", "--user", "nobody")
    assert enabled.exec("stat", "--format=%U", "/run/nvidia-persistenced").strip() == "nobody"
    enabled.gpus.wait_users(1, 1)
    enabled.exec("sh", "-c", "kill $(cat /run/nvidia-persistenced/nvidia-persistenced.pid)")
    wait_until(lambda: enabled.try_exec("pidof", "nvidia-persistenced").status == 1, "its end, and its keeper's", timeout=20)
    enabled.gpus.wait_released()


def test_an_enabled_unit_without_its_program_fails_at_step_exec_and_doctor_says_so(enabled):
    enabled.exec("systemctl", "stop", SERVICE)
    enabled.exec("rm", STARTED)
    assert enabled.try_exec("systemctl", "start", SERVICE).status != 0
    assert f"Failed at step EXEC spawning {STARTED}: No such file or directory" in enabled.journal(unit=SERVICE)
    assert "status=203/EXEC" in enabled.try_exec("systemctl", "status", SERVICE).out
    found = problems(enabled)["unit-exec"]
    assert found["runbook"] == "exec-failed" and any(STARTED in line for line in found["evidence"])


def test_doctor_finds_no_problem_on_a_node_with_the_enabled_unit(enabled):
    assert problems(enabled) == {}


def disable(node):
    node.exec("systemctl", "disable", SERVICE)


def mask(node):
    node.exec("systemctl", "mask", "--now", SERVICE)


def remove(node):
    node.exec("systemctl", "disable", "--now", SERVICE)
    node.exec("rm", f"/lib/systemd/system/{SERVICE}")
    node.exec("systemctl", "daemon-reload")


def misuse(node):
    node.write(f"/etc/systemd/system/{SERVICE}.d/wrong.conf",
               f"[Service]\nExecStart=\nExecStart={PROGRAM} --nonsense\n")
    node.exec("systemctl", "daemon-reload")
    assert node.try_exec("systemctl", "restart", SERVICE).status != 0


@pytest.mark.parametrize("what, check, words", [
    (disable, "unit", "disabled"),
    (mask, "unit", "masked"),
    (remove, "unit", "no unit"),
    (misuse, "unit-result", "failed"),
])
def test_doctor_finds_what_is_wrong_with_the_unit_and_its_cure_works(enabled, what, check, words):
    what(enabled)
    found = problems(enabled)[check]
    assert words in found["summary"] and found["evidence"]
    if what in (disable, mask):
        enabled.exec("sh", "-c", found["cure"])
        assert problems(enabled) == {}
        assert enabled.gpus.users() == [1, 1]


# ---- reset


def test_a_gpu_can_be_reset_between_a_stop_and_a_start(enabled):
    refused = enabled.try_exec(RESET)
    assert refused.status != 0 and "In use by another client: nvidia-persiste" in refused.err
    enabled.exec("systemctl", "stop", SERVICE)
    enabled.gpus.wait_released()
    assert "was successfully reset" in enabled.exec(RESET)
    enabled.exec("systemctl", "start", SERVICE)
    assert enabled.gpus.users() == [1, 1]


def test_release_resets_one_gpu_and_leaves_the_other_held(enabled):
    assert "was successfully reset" in enabled.exec(f"holdfast release --gpu 0 -- {RESET}")
    assert enabled.gpus.users() == [1, 1]
    torn_down = [record["gpu"] for record in enabled.gpus.journal("torn-down")]
    assert torn_down == enabled.gpus.addresses[:1]
