# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Configurations that machines may have before Holdfast is installed, besides those of test_drop_ins.py: other programs with
our name, units that stop, fail or hide ours, and what doctor reports."""

import re

import pytest

from harness.events import wait_until

pytestmark = pytest.mark.each_debian(ci=False)

SERVICE = "nvidia-persistenced.service"
FOLDER = f"/etc/systemd/system/{SERVICE}.d"
PROGRAM = "/usr/bin/nvidia-persistenced"
OURS = "/usr/libexec/holdfast/nvidia-persistenced"


def show(node, name, unit=SERVICE):
    return node.exec("systemctl", "show", f"--property={name}", "--value", unit).strip()


def drop_in(node, text, name="override.conf"):
    node.write(f"{FOLDER}/{name}", text)
    node.exec("systemctl", "daemon-reload")


def doctor(node):
    """Returns doctor's checks by id, after the journal has written all messages."""
    node.exec("journalctl", "--sync")
    return {check["id"]: check for check in node.try_exec("holdfast", "doctor", "--json").json()["checks"]}


def install_foreign_program(node):
    """Installs another program, as a .run installer does. It goes into the background and supports none of our options."""
    node.exec("rm", PROGRAM)
    node.write(PROGRAM, '#!/bin/sh\necho "unrecognized option: $1" >&2\n')
    node.exec("chmod", "+x", PROGRAM)


def test_our_unit_does_not_start_another_program_with_the_usual_name(node):
    install_foreign_program(node)
    node.exec("systemctl", "start", SERVICE)
    assert node.gpus.users() == [1, 1]
    assert node.exec("readlink", f"/proc/{show(node, 'MainPID')}/exe").strip() == OURS
    assert node.exec("pgrep", "-f", f"^{PROGRAM}").split() == [show(node, "MainPID")]


def test_a_drop_in_that_starts_another_program_fails_once_and_doctor_names_it(node):
    install_foreign_program(node)
    drop_in(node, f"[Service]\nExecStart=\nExecStart={PROGRAM} --user nvidia-persistenced\n")
    assert node.try_exec("systemctl", "start", SERVICE).status != 0
    assert (show(node, "ActiveState"), show(node, "NRestarts"), show(node, "Result")) == ("failed", "0", "protocol")
    check = doctor(node)["unit-exec"]
    assert check["verdict"] == "problem" and PROGRAM in check["summary"], check
    assert f"{FOLDER}/override.conf" in "".join(check["evidence"]) and "holdfast takeover" in check["cure"], check


def test_a_failing_command_fails_the_unit_once_and_doctor_quotes_it(node):
    node.write("/usr/local/sbin/limits", "#!/bin/sh\necho 'no such clock' >&2\nexit 4\n")
    node.exec("chmod", "+x", "/usr/local/sbin/limits")
    drop_in(node, "[Service]\nExecStartPost=/usr/local/sbin/limits\n")
    assert node.try_exec("systemctl", "start", SERVICE).status != 0
    assert (show(node, "ActiveState"), show(node, "NRestarts")) == ("failed", "0")
    check = doctor(node)["unit-result"]
    assert check["verdict"] == "problem" and "ExecStartPost=/usr/local/sbin/limits" in check["summary"], check
    assert "journal: no such clock" in check["evidence"], check


def test_doctor_reports_a_unit_that_restarts_repeatedly_even_while_it_is_starting(node):
    node.write("/usr/local/sbin/limits", "#!/bin/sh\necho 'no such clock' >&2\nexit 4\n")
    node.exec("chmod", "+x", "/usr/local/sbin/limits")
    drop_in(node, "[Service]\nRestart=always\nRestartSec=100ms\nExecStartPre=/usr/local/sbin/limits\n")
    node.exec("systemctl", "start", "--no-block", SERVICE)
    wait_until(lambda: int(show(node, "NRestarts")) >= 2, "restarts", 20)
    check = doctor(node)["unit-result"]
    assert check["verdict"] == "problem", check
    assert "ExecStartPre=/usr/local/sbin/limits" in check["summary"] or "started again" in check["summary"], check
    assert "journal: no such clock" in check["evidence"], check


@pytest.mark.parametrize(("text", "status"), [
    ("ExecStart=\nExecStart=/usr/bin/nvidia-persistenced --bogus", "2"),
    ("ExecStart=\nExecStart=/usr/bin/nvidia-persistenced --user no-such-user", "6"),
    ("ExecStart=\nExecStart=/usr/bin/nvidia-persistenced --config /etc/hostname", "6"),
], ids=["usage", "user", "configuration"])
def test_a_permanent_error_causes_no_restart(node, text, status):
    node.write("/etc/hostname", "no section\n")
    drop_in(node, f"[Service]\nRestart=on-failure\n{text}\n")
    assert node.try_exec("systemctl", "start", SERVICE).status != 0
    assert (show(node, "ActiveState"), show(node, "NRestarts"), show(node, "ExecMainStatus")) == ("failed", "0", status)


@pytest.mark.parametrize("signal", ["SEGV", "KILL", "ABRT"])
def test_a_killed_daemon_is_restarted(node, signal):
    node.exec("systemctl", "start", SERVICE)
    pid = show(node, "MainPID")
    node.exec("systemctl", "kill", f"--signal={signal}", "--kill-who=main", SERVICE)
    wait_until(lambda: show(node, "ActiveState") == "active" and show(node, "MainPID") not in (pid, "0"), "a new daemon", 20)
    assert [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]] == [0, 0]


def test_after_a_takeover_a_unit_that_nothing_wants_can_be_started_and_runs_after_a_reboot(node):
    """Like Ubuntu's unit, with StopWhenUnneeded= and without [Install]."""
    node.exec("rm", "-f", "/lib/systemd/system/nvidia-persistenced.service", "/lib/systemd/system/nvidia-persistenced.socket")
    node.write("/lib/systemd/system/nvidia-persistenced.service",
               "[Unit]\nDescription=A driver package's unit that nothing wants\nStopWhenUnneeded=true\n"
               "ConditionPathExists=/dev/no-such-node\n[Service]\nType=forking\nKillMode=none\nMemoryMax=1M\nLimitNPROC=1\n"
               f"ExecStart={PROGRAM} --user nvidia-persistenced --no-persistence-mode\n")
    node.exec("systemctl", "daemon-reload")
    said = node.exec("holdfast", "takeover")
    assert "is not running" in said, said
    cure = re.search(r"is not running; .*: (.*)", said)[1]
    node.exec("sh", "-c", cure)
    assert (show(node, "ActiveState"), node.gpus.users()) == ("active", [1, 1])
    node.reboot()
    assert (show(node, "ActiveState"), node.gpus.users()) == ("active", [1, 1])
    node.exec("systemctl", "stop", SERVICE)
    node.gpus.wait_released()
    assert node.exec("systemd-analyze", "verify", "--man=no", SERVICE) == ""
    cure = doctor(node)["daemon"]["cure"]
    node.exec("sh", "-c", cure)
    assert node.gpus.users() == [1, 1]


# ---- units that require ours

DEPENDENT = "inference.service"


@pytest.fixture(params=["Requires", "BindsTo"])
def depended_on(request, node):
    """A node with a service that requires ours. It stands for an inference server: a restart would lose the model that it has
    loaded, so it must not be restarted with the daemon."""
    node.write(f"/etc/systemd/system/{DEPENDENT}",
               f"[Unit]\n{request.param}={SERVICE}\nAfter={SERVICE}\n[Service]\nExecStart=/bin/sleep infinity\n")
    node.exec("systemctl", "daemon-reload")
    node.exec("systemctl", "start", DEPENDENT)
    return node


def replace_program(node):
    """Replaces the program as an upgrade does; returns the package's messages."""
    node.exec("sh", "-c", f"cp {OURS} {OURS}.new && mv {OURS}.new {OURS}")
    return node.exec("/usr/libexec/holdfast/restart-replaced", SERVICE)


def test_a_crash_restarts_no_unit_that_requires_ours(depended_on, debian):
    node = depended_on
    if debian == "bookworm":
        pytest.xfail("systemd 252 restarts it: RestartMode=direct came with 254")
    server, pid = show(node, "MainPID", DEPENDENT), show(node, "MainPID")
    node.exec("systemctl", "kill", "--signal=SEGV", "--kill-who=main", SERVICE)
    wait_until(lambda: show(node, "ActiveState") == "active" and show(node, "MainPID") not in (pid, "0"), "a new daemon", 20)
    assert show(node, "MainPID", DEPENDENT) == server
    assert [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]] == [0, 0]


def test_an_upgrade_restarts_no_unit_that_requires_ours_and_says_so(depended_on):
    node = depended_on
    pids = show(node, "MainPID"), show(node, "MainPID", DEPENDENT)
    said = replace_program(node)
    assert f"{SERVICE} still runs the previous version: a restart would restart {DEPENDENT}, too" in said, said
    assert (show(node, "MainPID"), show(node, "MainPID", DEPENDENT)) == pids


def test_an_upgrade_restarts_a_unit_that_nothing_requires_and_tears_no_gpu_down(node):
    node.exec("systemctl", "start", SERVICE)
    pid = show(node, "MainPID")
    assert f"{SERVICE} was restarted" in replace_program(node)
    assert show(node, "MainPID") != pid
    assert [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]] == [0, 0]


def test_an_upgrade_does_not_restart_an_administrators_unit_that_would_release_the_gpus(node):
    node.write(f"/etc/systemd/system/{SERVICE}",
               f"[Service]\nType=forking\nExecStart={PROGRAM} --user nvidia-persistenced\n[Install]\nWantedBy=multi-user.target\n")
    node.exec("systemctl", "daemon-reload")
    node.exec("systemctl", "start", SERVICE)
    pid = show(node, "MainPID")
    assert "a restart would release the GPUs" in replace_program(node)
    assert show(node, "MainPID") == pid
    assert [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]] == [0, 0]


# ---- a unit that loads and unloads the driver

# Stands for modprobe: refuses to unload while a GPU has a user. The simulator may notice a last close a little late.
DRIVER = """#!/bin/sh
[ "$1" = unload ] || exit 0
for look in 1 2 3 4 5 6 7 8 9 10; do
        /usr/lib/lab/holdfast-sim ctl --root /srv/gpus status --json | grep -q '"usage_count": *[1-9]' || exit 0
        sleep 0.1
done
echo "modprobe: FATAL: Module nvidia is in use." >&2
exit 1
"""
DRIVER_UNIT = f"""[Unit]
Before={SERVICE}
[Service]
Type=oneshot
RemainAfterExit=true
ExecStart=/usr/local/sbin/driver load
ExecStop=/usr/local/sbin/driver unload
[Install]
RequiredBy={SERVICE}
"""


@pytest.mark.parametrize("name", ["manage-driver.service", "anything.service"])
def test_a_restart_of_the_unit_that_loads_the_driver_releases_the_gpus_and_holds_them_again(node, name):
    node.write("/usr/local/sbin/driver", DRIVER)
    node.write(f"/etc/systemd/system/{name}", DRIVER_UNIT)
    node.exec("chmod", "+x", "/usr/local/sbin/driver")
    node.exec("systemctl", "daemon-reload")
    node.exec("systemctl", "enable", "--now", name, SERVICE)
    assert node.gpus.users() == [1, 1]

    node.exec("systemctl", "restart", name)
    assert "in use" not in node.journal(unit=name)
    wait_until(lambda: show(node, "ActiveState") == "active", "the daemon's start", 20)
    assert node.gpus.users() == [1, 1]
    # The simulator reports a teardown a little after the close.
    wait_until(lambda: [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]] == [1, 1], "the teardowns")

    node.exec("systemctl", "restart", SERVICE)
    node.gpus.wait_users(1, 1)
    assert [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]] == [1, 1], "an ordinary restart tears no GPU down"

    node.exec("systemctl", "stop", name)
    assert show(node, "ActiveState") == "inactive"
    node.gpus.wait_released()


def test_a_daemon_of_the_units_template_reads_a_configuration_that_was_written_after_its_start(node):
    template = node.read("/usr/share/holdfast/examples/nvidia-persistenced.service.template")
    node.write(f"/etc/systemd/system/{SERVICE}", template.replace("__USER__", "nvidia-persistenced"))
    node.exec("systemctl", "daemon-reload")
    node.exec("systemctl", "start", SERVICE)
    node.exec("sh", "-c", "printf '[gpu *]\\npersistence = off\\n' >/etc/holdfast/holdfast.conf")
    node.exec("systemctl", "reload", SERVICE)
    node.gpus.wait_released()
