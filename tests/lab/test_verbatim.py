# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What operators' handbooks say, word for word, on a real systemd: the commands, and what they are expected to show."""

import re

import pytest

from harness.events import wait_until

SERVICE = "nvidia-persistenced.service"
PROGRAM = "/usr/bin/nvidia-persistenced"
STARTED = "/usr/libexec/holdfast/nvidia-persistenced"  # whoever has that name in /usr/bin
RESET = "/usr/lib/lab/holdfast-sim ctl --root /srv/gpus reset --gpu 0"  # for nvidia-smi --gpu-reset -i 0


@pytest.fixture
def enabled(node):
    """A node on which it was enabled as handbooks say."""
    node.exec("systemctl", "enable", "--now", SERVICE)
    return node


def users(node):
    """How many have each GPU open."""
    return [gpu["usage_count"] for gpu in node.gpus.status()["gpus"]]


def problems(node):
    """What `holdfast doctor` finds: its checks with a problem, by name."""
    checks = node.try_exec("holdfast", "doctor", "--json").json()["checks"]
    return {check["id"]: check for check in checks if check["verdict"] == "problem"}


# ---- is it there, does it run


def test_which_finds_it_in_usr_bin(node):
    assert node.exec("which", "nvidia-persistenced") == f"{PROGRAM}\n"


def test_enable_now_starts_it_and_returns_when_the_gpus_are_held(node):
    said = node.try_exec("systemctl", "enable", "--now", SERVICE)
    assert said.status == 0 and "Created symlink" in said.err
    assert users(node) == [1, 1]
    assert node.exec("systemctl", "is-active", SERVICE) == "active\n"
    assert node.exec("systemctl", "is-enabled", SERVICE) == "enabled\n"


def test_status_shows_it_running_how_many_gpus_it_holds_and_its_first_lines(enabled):
    said = enabled.exec("systemctl", "status", SERVICE)
    assert "Active: active (running)" in said
    assert 'Status: "2 of 2 GPUs held"' in said
    assert re.search(r"nvidia-persistenced\[\d+\]: Started \(\d+\)", said)


def test_cat_shows_a_unit_that_starts_our_program_under_the_usual_path(enabled):
    unit = enabled.exec("systemctl", "cat", SERVICE)
    assert f"\nExecStart=@{STARTED} {PROGRAM} " in unit and "\nUser=nvidia-persistenced\n" in unit


def test_pgrep_and_pidof_find_the_usual_path_by_the_usual_name(enabled):
    """The kernel keeps 15 characters of a name, so `pgrep` needs -f for all of it, whoever made the daemon."""
    pid = enabled.exec("systemctl", "show", "--value", "--property=MainPID", SERVICE).strip()
    for pattern in (["nvidia-persiste"], ["-f", "^/usr/bin/nvidia-persistenced"]):
        assert enabled.exec("pgrep", "-a", *pattern).startswith(f"{pid} {PROGRAM} ")
    assert pid in enabled.exec("pidof", "nvidia-persistenced").split(), "beside its keeper"
    assert enabled.exec("cat", "/run/nvidia-persistenced/nvidia-persistenced.pid").strip() == pid


# ---- what it says


def test_the_journal_has_its_start_a_line_for_each_gpu_and_its_end(enabled):
    enabled.exec("systemctl", "stop", SERVICE)
    said = enabled.journal(unit=SERVICE)
    pid = re.search(r"^Started \((\d+)\)$", said, re.MULTILINE)[1]
    for address in enabled.gpus.addresses:
        assert f"device {address} - registered\n" in said, "the unit has --verbose"
        assert f"device {address} - persistence mode enabled.\n" in said
    assert f"\nShutdown ({pid})\n" in said
    assert "Deactivated successfully" in said


def test_with_v_on_the_command_line_there_is_a_line_for_each_gpu_in_the_journal(node):
    """By hand, without the unit: it goes into the background and logs by syslog."""
    node.exec("nvidia-persistenced", "-V")
    said = node.journal("--identifier=nvidia-persistenced")
    for address in node.gpus.addresses:
        assert f"device {address} - persistence mode enabled.\n" in said
    assert users(node) == [1, 1]
    pid = node.read("/run/nvidia-persistenced/nvidia-persistenced.pid").strip()
    node.exec("kill", pid)
    node.exec("tail", f"--pid={pid}", "-f", "/dev/null")
    assert f"\nShutdown ({pid})\n" in node.journal("--identifier=nvidia-persistenced")
    assert users(node) == [0, 0]


# ---- over a reboot


def test_after_a_reboot_the_gpus_are_held_again(enabled):
    enabled.reboot()
    assert enabled.exec("systemctl", "is-active", SERVICE) == "active\n"
    assert users(enabled) == [1, 1]
    assert enabled.try_exec("holdfast", "check").status == 0
    assert "Deactivated successfully" in enabled.journal("--boot=-1", unit=SERVICE), "it ended in order before"
    assert "Ready: 2 of 2 GPUs held" in enabled.journal("--boot=0", unit=SERVICE)


def test_after_a_loss_of_power_as_well(enabled):
    enabled.exec("sync")
    enabled.cut_power()
    enabled.boot()
    assert users(enabled) == [1, 1]
    assert enabled.try_exec("holdfast", "check").status == 0


# ---- when it does not work


def test_another_user_takes_over_the_directory_that_the_unit_has_left(enabled):
    """The directory that the unit has made is its user's; root gives it away before it becomes the other."""
    enabled.exec("systemctl", "stop", SERVICE)
    enabled.exec("nvidia-persistenced", "--user", "nobody")
    assert enabled.exec("stat", "--format=%U", "/run/nvidia-persistenced").strip() == "nobody"
    assert users(enabled) == [1, 1]
    enabled.exec("sh", "-c", "kill $(cat /run/nvidia-persistenced/nvidia-persistenced.pid)")
    wait_until(lambda: enabled.try_exec("pidof", "nvidia-persistenced").status == 1, "its end, and its keeper's", timeout=20)
    assert users(enabled) == [0, 0]


def test_an_enabled_unit_whose_program_is_gone_fails_at_step_exec_and_doctor_says_so(enabled):
    enabled.exec("systemctl", "stop", SERVICE)
    enabled.exec("rm", STARTED)
    assert enabled.try_exec("systemctl", "start", SERVICE).status != 0
    assert f"Failed at step EXEC spawning {STARTED}: No such file or directory" in enabled.journal(unit=SERVICE)
    assert "status=203/EXEC" in enabled.try_exec("systemctl", "status", SERVICE).out
    found = problems(enabled)["unit-exec"]
    assert found["runbook"] == "exec-failed" and any(STARTED in line for line in found["evidence"])


def test_doctor_has_nothing_to_say_of_a_node_on_which_it_was_enabled(enabled):
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
def test_doctor_finds_what_is_wrong_with_the_unit_and_its_cure_is_one(enabled, what, check, words):
    what(enabled)
    found = problems(enabled)[check]
    assert words in found["summary"] and found["evidence"]
    if what in (disable, mask):
        enabled.exec("sh", "-c", found["cure"])
        assert problems(enabled) == {}
        assert users(enabled) == [1, 1]


# ---- reset


def test_a_gpu_is_reset_between_stop_and_start(enabled):
    refused = enabled.try_exec(RESET)
    assert refused.status != 0 and "In use by another client: nvidia-persiste" in refused.err
    enabled.exec("systemctl", "stop", SERVICE)
    assert "was successfully reset" in enabled.exec(RESET)
    enabled.exec("systemctl", "start", SERVICE)
    assert users(enabled) == [1, 1]


def test_release_resets_one_gpu_and_leaves_the_other_held(enabled):
    assert "was successfully reset" in enabled.exec(f"holdfast release --gpu 0 -- {RESET}")
    assert users(enabled) == [1, 1]
    torn_down = [record["gpu"] for record in enabled.gpus.journal("torn-down")]
    assert torn_down == enabled.gpus.addresses[:1]
