# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast takeover makes a driver package's unit run our daemon, undoes that on request, and also if a step fails.

systemctl is a stand-in here. It records each call, and which GPUs the caller had open at that time. tests/lab uses a real
systemd.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from conftest import BUILD
from harness import process
from harness.command import holdfast
from harness.node import FAILED, RELEASED, THREE, Row

A, B, C = THREE
DONE, NOT_DONE, USAGE, NOT_PERMITTED = 0, 1, 2, 4
LINKS = {"50-holdfast.conf": "etc/systemd/system/nvidia-persistenced.service.d/50-holdfast.conf",
         "nvidia-persistenced.socket": "etc/systemd/system/nvidia-persistenced.socket"}

pytestmark = pytest.mark.holdfast_only("the command reads files below --root")

SYSTEMCTL = """#!/bin/bash
# {state}/unit: the properties in the unit file. {state}/loaded: the properties that systemd has read at the last reload.
cd {state} || exit
echo "$*" >>calls
case $1 in
show) cat loaded && exit ;;
daemon-reload)
        cp unit loaded
        if [ -L {root}/{drop_in} ] && [ ! -e overruled ]; then
                sed -i 's,path=[^ ]*,path={daemon},' loaded
        fi
        ;;
esac
for fd in /proc/$PPID/fd/*; do readlink "$fd"; done | grep -o 'nvidia[0-9]*$' | sort >"open-at-$1"
if [ -e "do-$1" ]; then . "./do-$1"; fi
"""


def installed():
    """The paths where the build under test installs its daemon and its takeover files."""
    options = json.loads((BUILD / "meson-info/intro-buildoptions.json").read_text())
    value = {option["name"]: option["value"] for option in options}
    return (Path(value["prefix"]) / value["libexecdir"] / "holdfast/nvidia-persistenced",
            Path(value["prefix"]) / value["datadir"] / "holdfast/takeover")


DAEMON, FOLDER = installed()
DOCUMENTATION = "man:nvidia-persistenced(1) man:holdfast(1)"  # in our unit and in our drop-in


class Systemd:
    """A driver package's unit below --root, and a systemctl that reports it."""

    def __init__(self, root):
        self.root = root
        self.state = root / "systemd-state"
        self.state.mkdir()
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "etc/systemd/system").mkdir(parents=True)
        self.write(root / "usr/bin/nvidia-persistenced", "NVIDIA's")
        self.write(self.installed(DAEMON), "Holdfast's")
        for name in LINKS:
            self.write(self.installed(FOLDER / name), name)
        program = self.write(root / "bin/systemctl", SYSTEMCTL.format(
            state=self.state, root=root, drop_in=LINKS["50-holdfast.conf"], daemon=DAEMON))
        program.chmod(0o755)
        self.unit()

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def installed(self, path):
        return self.root / path.relative_to("/")

    def unit(self, options="--verbose", program="/usr/bin/nvidia-persistenced", **changes):
        """Writes the driver package's unit file and loads it."""
        properties = {
            "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "static",
            "FragmentPath": "/lib/systemd/system/nvidia-persistenced.service", "DropInPaths": "",
            "ExecStart": f"{{ path={program} ; argv[]={program} {options} ; ignore_errors=no }}",
            "Documentation": "",
        } | changes
        text = "\n".join(f"{key}={value}" for key, value in properties.items()) + "\n\nActiveState=inactive\n"
        for name in ("unit", "loaded"):
            (self.state / name).write_text(text)

    def does(self, verb, script):
        """Makes systemctl also run this script for the verb."""
        self.write(self.state / f"do-{verb}", script)

    @property
    def calls(self):
        """The calls of systemctl that change something."""
        path = self.state / "calls"
        return [call for call in path.read_text().splitlines() if not call.startswith("show")] if path.exists() else []

    def open_at(self, verb):
        return (self.state / f"open-at-{verb}").read_text().split()

    @property
    def links(self):
        """The target of each link."""
        return {name: os.readlink(self.root / path) for name, path in LINKS.items() if (self.root / path).is_symlink()}

    def takeover(self, *arguments, **how):
        how = {"PATH": f"{self.root}/bin:{os.environ['PATH']}"} | how
        return holdfast(self.root, "takeover", *arguments, **how)


@pytest.fixture
def systemd(three):
    """Three GPUs, two of them initialised; a driver package's unit; at the socket, Holdfast's daemon answers."""
    for address, minor in ((A, 0), (C, 2)):
        three.add_gpu(address, minor, initialised=True)
    three.start_daemon(rows=[Row(A, minor=0), Row(B, state=RELEASED, wanted=0, minor=1), Row(C, minor=2)])
    systemd = Systemd(three.root)
    systemd.daemon = three.daemon
    return systemd


ALL = {name: str(FOLDER / name) for name in LINKS}


# ---- takeover -----------------------------------------------------------------


def test_the_unit_is_linked_reloaded_and_restarted_in_that_order(systemd):
    result = systemd.takeover()
    assert result.status == DONE, result.err
    assert systemd.links == ALL
    assert systemd.calls == ["daemon-reload", "restart nvidia-persistenced.service"]
    assert "nvidia-persistenced.service runs Holdfast's daemon" in result.out
    assert "2 GPUs stayed initialised meanwhile" in result.out


def test_takeover_keeps_initialised_gpus_open_and_leaves_the_others_cold(systemd):
    assert systemd.takeover().status == DONE
    assert systemd.open_at("daemon-reload") == systemd.open_at("restart") == ["nvidia0", "nvidia2"]


def test_a_second_takeover_finds_nothing_to_do(systemd):
    assert systemd.takeover().status == DONE
    before = systemd.calls
    result = systemd.takeover()
    assert (result.status, systemd.calls) == (DONE, before)
    assert "already" in result.out


def test_a_unit_that_is_not_running_is_not_started(systemd):
    systemd.unit(ActiveState="inactive")
    result = systemd.takeover()
    assert result.status == DONE and systemd.calls == ["daemon-reload"] and systemd.links == ALL
    assert "systemctl start nvidia-persistenced" in result.out


def test_takeover_names_options_that_lose_their_effect_and_what_replaces_them(systemd):
    systemd.unit("--user x --no-persistence-mode --uvm-persistence-mode")
    out = systemd.takeover().out
    assert "has --no-persistence-mode, which no longer has an effect" in out and "persistence = off" in out
    assert "has --uvm-persistence-mode" in out and "uvm-persistence = on" in out


def test_a_dry_run_prints_the_steps_and_changes_nothing(systemd):
    result = systemd.takeover("--dry-run")
    assert (result.status, systemd.calls, systemd.links) == (DONE, [], {})
    for words in ("daemon-reload", "systemctl restart", "2 of 3 GPUs are initialised", *ALL.values()):
        assert words in result.out


# ---- undo ----------------------------------------------------------------------


def test_undo_restores_the_unit_and_keeps_the_gpus_open_meanwhile(systemd):
    assert systemd.takeover().status == DONE
    before = len(systemd.calls)
    result = systemd.takeover("--undo")
    assert result.status == DONE, result.err
    assert systemd.calls[before:] == ["stop nvidia-persistenced.socket", "daemon-reload",
                                      "restart nvidia-persistenced.service"]
    assert systemd.links == {} and not (systemd.root / LINKS["50-holdfast.conf"]).parent.exists()
    assert systemd.open_at("restart") == ["nvidia0", "nvidia2"]
    assert "has its own program back" in result.out


def test_undo_leaves_the_drop_ins_of_others(systemd):
    assert systemd.takeover().status == DONE
    other = systemd.write(systemd.root / "etc/systemd/system/nvidia-persistenced.service.d/x.conf", "")
    assert systemd.takeover("--undo").status == DONE
    assert other.exists() and systemd.links == {}


def test_undo_without_a_takeover_does_nothing(systemd):
    result = systemd.takeover("--undo")
    assert (result.status, systemd.calls) == (DONE, []) and "nothing to undo" in result.out


# ---- failures ------------------------------------------------------------------


def assert_sent_back(systemd, result, words):
    assert result.status == NOT_DONE and words in result.err, result.err
    assert "the previous state is restored" in result.err
    assert systemd.links == {} and systemd.calls[-2:] == ["daemon-reload", "restart nvidia-persistenced.service"]
    assert systemd.open_at("restart") == ["nvidia0", "nvidia2"], "the GPUs are not open until the old daemon is back"


def test_takeover_changes_nothing_if_it_cannot_hold_a_gpu_meanwhile(systemd):
    """The old daemon must not be restarted, since that alone would release the GPU."""
    systemd.root.joinpath("dev/nvidia2").unlink()
    systemd.root.joinpath("dev/nvidia2").mkdir()
    result = systemd.takeover()
    assert result.status == NOT_DONE and "cannot hold GPU 2" in result.err and "Nothing was changed" in result.err
    assert (systemd.links, systemd.calls) == ({}, [])


def test_takeover_changes_nothing_if_the_device_node_of_a_gpu_is_unknown(systemd):
    systemd.daemon.rows = None
    systemd.daemon.modes = {C[:-2]: (0, 1)}
    information = systemd.root / f"proc/driver/nvidia/gpus/{C}/information"
    information.unlink()
    os.mkfifo(information)  # readers hang, as when a GPU hangs in its initialisation
    result = systemd.takeover()
    assert result.status == NOT_DONE and "does not answer a read" in result.err
    assert "Nothing was changed" in result.err
    assert (systemd.links, systemd.calls) == ({}, [])


def test_takeover_is_undone_if_the_restart_fails(systemd):
    systemd.does("restart", "[ -e failed ] || { touch failed; printf 'Job failed.\\nSee journalctl' >&2; exit 1; }")
    assert_sent_back(systemd, systemd.takeover(), "systemctl restart failed: Job failed. The unit runs")


def test_takeover_is_undone_if_the_new_daemon_cannot_hold_a_gpu(systemd):
    systemd.daemon.rows = [*systemd.daemon.rows[:2], Row(C, state=FAILED, minor=2, error="it fell off")]
    result = systemd.takeover()
    assert_sent_back(systemd, result, f"GPU 2 {C} was initialised, and Holdfast's daemon cannot hold it")


def test_takeover_is_undone_if_the_new_daemon_does_not_list_a_gpu(systemd):
    systemd.daemon.rows = systemd.daemon.rows[:2]
    result = systemd.takeover()
    assert_sent_back(systemd, result, f"GPU 2 {C} was initialised, and Holdfast's daemon cannot hold it")


def test_takeover_is_undone_if_nvidias_daemon_still_answers(systemd):
    systemd.daemon.rows = None
    assert_sent_back(systemd, systemd.takeover(), "Holdfast's daemon does not answer: NVIDIA's does")


def test_if_a_drop_in_overrides_ours_takeover_names_it_and_restarts_the_unit_once_for_the_undo(systemd):
    systemd.unit(DropInPaths="/etc/systemd/system/nvidia-persistenced.service.d/override.conf")
    (systemd.state / "overruled").touch()
    result = systemd.takeover()
    assert_sent_back(systemd, result, "another drop-in overrides it")
    assert "override.conf" in result.err
    assert systemd.calls.count("restart nvidia-persistenced.service") == 1


def test_takeover_says_so_if_the_undo_fails_too(systemd):
    systemd.does("restart", "exit 1")
    result = systemd.takeover()
    assert result.status == NOT_DONE and "GPUs may not be held" in result.err


@pytest.mark.parametrize("changes, words", [
    ({"LoadState": "masked"}, "is masked: nothing starts it. First: systemctl unmask nvidia-persistenced"),
    ({"LoadState": "not-found", "FragmentPath": ""}, "Install holdfast-nvidia-persistenced"),
    ({"LoadState": "bad-setting"}, "systemd-analyze verify"),
])
def test_takeover_does_not_change_a_unit_that_cannot_run_our_daemon(systemd, changes, words):
    systemd.unit(**changes)
    result = systemd.takeover()
    assert (result.status, systemd.calls, systemd.links) == (NOT_DONE, [], {}) and words in result.err


def test_without_systemd_takeover_says_so(systemd):
    (systemd.root / "run/systemd/system").rmdir()
    for arguments in ((), ("--undo",)):
        result = systemd.takeover(*arguments)
        assert result.status == NOT_DONE and "systemd does not run here" in result.err


def test_takeover_names_the_folder_of_our_missing_files(systemd):
    systemd.installed(FOLDER / "50-holdfast.conf").unlink()
    result = systemd.takeover()
    assert result.status == NOT_DONE and "not completely installed" in result.err and str(FOLDER) in result.err
    assert systemd.links == {}


def test_takeover_does_not_replace_a_foreign_file_in_place_of_a_link(systemd):
    theirs = systemd.write(systemd.root / LINKS["nvidia-persistenced.socket"], "theirs")
    result = systemd.takeover()
    assert result.status == NOT_DONE and "in the place of a link" in result.err and theirs.read_text() == "theirs"
    assert systemd.links == {}


def test_only_root_may_take_over_a_unit(systemd):
    for arguments in ((), ("--undo",), ("--clear-legacy-flag", "--nvml=/x")):
        result = systemd.takeover(*arguments, user=process.NOBODY)
        assert result.status == NOT_PERMITTED and "run this as root" in result.err
    assert systemd.calls == []


# ---- status --------------------------------------------------------------------


def status(systemd):
    document = systemd.takeover("--status", "--json").json("takeover")
    return document["state"], document["program"]


def test_takeover_status_reports_whose_program_the_unit_runs(systemd):
    assert status(systemd) == ("not-taken-over", "/usr/bin/nvidia-persistenced")
    assert systemd.takeover("--status").status == NOT_DONE
    assert systemd.takeover().status == DONE
    assert status(systemd) == ("taken-over", str(DAEMON))
    text = systemd.takeover("--status")
    assert text.status == DONE and "taken over" in text.out and f"program: {DAEMON}" in text.out


def test_a_foreign_unit_that_starts_our_program_through_a_link_is_not_taken_over(systemd):
    program = systemd.root / "usr/bin/nvidia-persistenced"
    program.unlink()
    program.symlink_to(systemd.installed(DAEMON))
    assert status(systemd)[0] == "not-taken-over"


def test_the_unit_of_our_own_package_needs_no_takeover(systemd):
    program = systemd.root / "usr/bin/nvidia-persistenced"
    program.unlink()
    program.symlink_to(systemd.installed(DAEMON))
    systemd.unit(Documentation=DOCUMENTATION)
    assert status(systemd)[0] == "own"
    result = systemd.takeover()
    assert (result.status, systemd.calls, systemd.links) == (DONE, [], {}) and "already" in result.out


@pytest.mark.parametrize("arguments", [
    ("--status", "--undo"), ("--json",), ("--undo", "--clear-legacy-flag"), ("--clear-legacy-flag",), ("now",),
])
def test_options_that_exclude_each_other_are_wrong_usage(systemd, arguments):
    assert systemd.takeover(*arguments).status == USAGE


# ---- the kernel flag, on the simulated driver ----------------------------------


def test_if_the_kernel_flag_cannot_be_cleared_the_daemon_is_started_again(systemd):
    program = systemd.root / "usr/bin/nvidia-persistenced"
    program.unlink()
    program.symlink_to(systemd.installed(DAEMON))
    systemd.unit(Documentation=DOCUMENTATION)
    result = systemd.takeover("--clear-legacy-flag", "--nvml=/nonexistent/libnvidia-ml.so.1")
    assert result.status == NOT_DONE and "/nonexistent/libnvidia-ml.so.1" in result.err
    assert systemd.calls == ["stop nvidia-persistenced.service", "start nvidia-persistenced.service"]
    assert systemd.open_at("start") == ["nvidia0", "nvidia2"]


def end_daemon(world):
    pid = int(world.site.pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    process.reap(pid, 10)


def wait_torn_down(sim, count):
    """Waits for the teardowns: the simulator learns a moment later which files an exiting process had open.

    See "Closing" in docs/simulator.md.
    """
    last, seen = 0, 0
    while seen < count:
        with sim._connect(30) as connection:
            answer = sim._ask(connection, "journal", event="torn-down", since=last, timeout="10s")
        assert answer["records"], f"{seen} of {count} GPUs were torn down"
        seen, last = seen + len(answer["records"]), answer["records"][-1]["seq"]


def test_takeover_clears_the_kernel_flag_between_the_daemons_without_a_teardown(driver):
    """As after nvidia-smi -pm 1 without a daemon, only the flag keeps the GPUs initialised."""
    nvml = ("--nvml", BUILD / "tests/nvml/libnvidia-ml.so.1")
    environment = {"HOLDFAST_SIM_SOCKET": str(driver.sim.socket_path)}
    root = driver.base / "root"
    assert holdfast(root, "set", "on", *nvml, **environment).status == DONE
    disk = driver.base / "disk"  # the simulator's root accepts no other files
    disk.mkdir()
    for name in ("dev", "proc", "run", "sys"):
        (disk / name).symlink_to(root / name)
    systemd = Systemd(disk)
    systemd.unit(ActiveState="inactive")
    systemd.does("start", f"{driver.site.program} --root {root}")
    result = systemd.takeover("--clear-legacy-flag", *nvml, **environment)
    try:
        assert result.status == DONE, result.err
        assert [gpu["legacy"] for gpu in driver.sim.status()["gpus"]] == [False, False]
        assert [gpu["teardowns"] for gpu in driver.sim.status()["gpus"]] == [0, 0]
        assert systemd.calls[-2:] == [f"{verb} nvidia-persistenced.service" for verb in ("stop", "start")]
        assert holdfast(root, "check").status == DONE
    finally:
        end_daemon(driver)
    wait_torn_down(driver.sim, 2)
    assert [gpu["teardowns"] for gpu in driver.sim.status()["gpus"]] == [1, 1], "something else still keeps the GPUs"
