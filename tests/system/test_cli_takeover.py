# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast takeover: a driver package's unit made to run our daemon, given back, and sent back when a step fails. systemd
is a stand-in here, which keeps what it was asked and who had which GPU open then; on a real one: tests/lab."""

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

pytestmark = pytest.mark.holdfast_only("the command looks below a root")

SYSTEMCTL = """#!/bin/bash
# {state}/unit: what the unit file says; {state}/loaded: what systemd knows of it since the last reload.
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
    """Where the build under test says that its own files go."""
    options = json.loads((BUILD / "meson-info/intro-buildoptions.json").read_text())
    value = {option["name"]: option["value"] for option in options}
    return (Path(value["prefix"]) / value["libexecdir"] / "holdfast/nvidia-persistenced",
            Path(value["prefix"]) / value["datadir"] / "holdfast/takeover")


DAEMON, FOLDER = installed()
DOCUMENTATION = "man:nvidia-persistenced(1) man:holdfast(1)"  # of our unit, and of our drop-in


class Systemd:
    """A driver package's unit below a root, and who may be asked about it."""

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
        """The unit file as the driver package has it, loaded."""
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
        """What systemctl does at that verb, besides."""
        self.write(self.state / f"do-{verb}", script)

    @property
    def calls(self):
        """What was asked to change something."""
        path = self.state / "calls"
        return [call for call in path.read_text().splitlines() if not call.startswith("show")] if path.exists() else []

    def open_at(self, verb):
        return (self.state / f"open-at-{verb}").read_text().split()

    @property
    def links(self):
        """What each link leads to."""
        return {name: os.readlink(self.root / path) for name, path in LINKS.items() if (self.root / path).is_symlink()}

    def takeover(self, *arguments, **how):
        how = {"PATH": f"{self.root}/bin:{os.environ['PATH']}"} | how
        return holdfast(self.root, "takeover", *arguments, **how)


@pytest.fixture
def systemd(three):
    """Two initialised GPUs of three, a driver package's unit; whoever is asked at the socket is Holdfast's daemon."""
    for address, minor in ((A, 0), (C, 2)):
        three.add_gpu(address, minor, initialised=True)
    three.start_daemon(rows=[Row(A, minor=0), Row(B, state=RELEASED, wanted=0, minor=1), Row(C, minor=2)])
    systemd = Systemd(three.root)
    systemd.daemon = three.daemon
    return systemd


ALL = {name: str(FOLDER / name) for name in LINKS}


# ---- taking -------------------------------------------------------------------


def test_the_unit_is_linked_reloaded_and_restarted_in_that_order(systemd):
    result = systemd.takeover()
    assert result.status == DONE, result.err
    assert systemd.links == ALL
    assert systemd.calls == ["daemon-reload", "restart nvidia-persistenced.service"]
    assert "nvidia-persistenced.service runs Holdfast's daemon" in result.out
    assert "2 GPUs stayed initialised meanwhile" in result.out


def test_initialised_gpus_are_open_while_the_daemons_change_and_others_are_left_cold(systemd):
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


def test_options_that_no_longer_count_are_named_with_what_does(systemd):
    systemd.unit("--user x --no-persistence-mode --uvm-persistence-mode")
    out = systemd.takeover().out
    assert "has --no-persistence-mode, which no longer has an effect" in out and "persistence = off" in out
    assert "has --uvm-persistence-mode" in out and "uvm-persistence = on" in out


def test_a_dry_run_tells_the_steps_and_changes_nothing(systemd):
    result = systemd.takeover("--dry-run")
    assert (result.status, systemd.calls, systemd.links) == (DONE, [], {})
    for words in ("daemon-reload", "systemctl restart", "2 of 3 GPUs are initialised", *ALL.values()):
        assert words in result.out


# ---- giving back ---------------------------------------------------------------


def test_undo_gives_the_unit_back_with_the_gpus_held_meanwhile(systemd):
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


# ---- failing -------------------------------------------------------------------


def assert_sent_back(systemd, result, words):
    assert result.status == NOT_DONE and words in result.err, result.err
    assert "the previous state is restored" in result.err
    assert systemd.links == {} and systemd.calls[-2:] == ["daemon-reload", "restart nvidia-persistenced.service"]
    assert systemd.open_at("restart") == ["nvidia0", "nvidia2"], "the GPUs are held until the old daemon is back"


def test_a_gpu_that_cannot_be_held_meanwhile_is_not_risked(systemd):
    """The old daemon is not restarted: that alone would let go of it."""
    systemd.root.joinpath("dev/nvidia2").unlink()
    systemd.root.joinpath("dev/nvidia2").mkdir()
    result = systemd.takeover()
    assert result.status == NOT_DONE and "cannot hold GPU 2" in result.err and "Nothing was changed" in result.err
    assert (systemd.links, systemd.calls) == ({}, [])


def test_a_gpu_whose_node_the_driver_does_not_tell_is_not_risked(systemd):
    systemd.daemon.rows = None
    systemd.daemon.modes = {C[:-2]: (0, 1)}
    information = systemd.root / f"proc/driver/nvidia/gpus/{C}/information"
    information.unlink()
    os.mkfifo(information)  # a read waits, as while a GPU hangs in its initialisation
    result = systemd.takeover()
    assert result.status == NOT_DONE and "does not answer a read" in result.err
    assert "Nothing was changed" in result.err
    assert (systemd.links, systemd.calls) == ({}, [])


def test_a_restart_that_fails_is_taken_back(systemd):
    systemd.does("restart", "[ -e failed ] || { touch failed; printf 'Job failed.\\nSee journalctl' >&2; exit 1; }")
    assert_sent_back(systemd, systemd.takeover(), "systemctl restart failed: Job failed. The unit runs")


def test_a_daemon_that_cannot_hold_what_was_initialised_is_taken_back(systemd):
    systemd.daemon.rows = [*systemd.daemon.rows[:2], Row(C, state=FAILED, minor=2, error="it fell off")]
    result = systemd.takeover()
    assert_sent_back(systemd, result, f"GPU 2 {C} was initialised, and Holdfast's daemon cannot hold it")


def test_nvidias_daemon_that_goes_on_answering_is_taken_back(systemd):
    systemd.daemon.rows = None
    assert_sent_back(systemd, systemd.takeover(), "Holdfast's daemon does not answer: NVIDIA's does")


def test_a_drop_in_that_overrules_ours_is_named_and_nothing_is_restarted_before(systemd):
    systemd.unit(DropInPaths="/etc/systemd/system/nvidia-persistenced.service.d/override.conf")
    (systemd.state / "overruled").touch()
    result = systemd.takeover()
    assert_sent_back(systemd, result, "another drop-in overrides it")
    assert "override.conf" in result.err
    assert systemd.calls.count("restart nvidia-persistenced.service") == 1


def test_that_not_even_the_way_back_works_is_said(systemd):
    systemd.does("restart", "exit 1")
    result = systemd.takeover()
    assert result.status == NOT_DONE and "GPUs may not be held" in result.err


@pytest.mark.parametrize("changes, words", [
    ({"LoadState": "masked"}, "is masked: nothing starts it. First: systemctl unmask nvidia-persistenced"),
    ({"LoadState": "not-found", "FragmentPath": ""}, "Install holdfast-nvidia-persistenced"),
    ({"LoadState": "bad-setting"}, "systemd-analyze verify"),
])
def test_a_unit_that_cannot_be_taken_is_left_alone(systemd, changes, words):
    systemd.unit(**changes)
    result = systemd.takeover()
    assert (result.status, systemd.calls, systemd.links) == (NOT_DONE, [], {}) and words in result.err


def test_without_systemd_it_says_so(systemd):
    (systemd.root / "run/systemd/system").rmdir()
    for arguments in ((), ("--undo",)):
        result = systemd.takeover(*arguments)
        assert result.status == NOT_DONE and "systemd does not run here" in result.err


def test_files_of_ours_that_are_missing_are_named(systemd):
    systemd.installed(FOLDER / "50-holdfast.conf").unlink()
    result = systemd.takeover()
    assert result.status == NOT_DONE and "not completely installed" in result.err and str(FOLDER) in result.err
    assert systemd.links == {}


def test_a_file_of_somebody_elses_in_the_place_of_a_link_is_left_alone(systemd):
    theirs = systemd.write(systemd.root / LINKS["nvidia-persistenced.socket"], "theirs")
    result = systemd.takeover()
    assert result.status == NOT_DONE and "in the place of a link" in result.err and theirs.read_text() == "theirs"
    assert systemd.links == {}


def test_only_root_may_take_but_everybody_may_look(systemd):
    for arguments in ((), ("--undo",), ("--clear-legacy-flag", "--nvml=/x")):
        result = systemd.takeover(*arguments, user=process.NOBODY)
        assert result.status == NOT_PERMITTED and "run this as root" in result.err
    assert systemd.calls == []


# ---- looking -------------------------------------------------------------------


def status(systemd):
    document = systemd.takeover("--status", "--json").json("takeover")
    return document["state"], document["program"]


def test_status_tells_whose_program_the_unit_runs(systemd):
    assert status(systemd) == ("not-taken-over", "/usr/bin/nvidia-persistenced")
    assert systemd.takeover("--status").status == NOT_DONE
    assert systemd.takeover().status == DONE
    assert status(systemd) == ("taken-over", str(DAEMON))
    text = systemd.takeover("--status")
    assert text.status == DONE and "taken over" in text.out and f"program: {DAEMON}" in text.out


def test_a_unit_of_somebody_elses_that_starts_our_program_by_its_link_is_taken_over(systemd):
    program = systemd.root / "usr/bin/nvidia-persistenced"
    program.unlink()
    program.symlink_to(systemd.installed(DAEMON))
    assert status(systemd)[0] == "not-taken-over"


def test_a_unit_of_holdfasts_own_package_is_not_taken_over(systemd):
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
def test_what_does_not_go_together_is_wrong_usage(systemd, arguments):
    assert systemd.takeover(*arguments).status == USAGE


# ---- the kernel's flag, on the simulated driver --------------------------------


def test_a_flag_that_cannot_be_cleared_leaves_no_daemon_stopped(systemd):
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
    """The closes of a process that exits reach the simulator a moment later (docs/simulator.md, Closing)."""
    last, seen = 0, 0
    while seen < count:
        with sim._connect(30) as connection:
            answer = sim._ask(connection, "journal", event="torn-down", since=last, timeout="10s")
        assert answer["records"], f"{seen} of {count} GPUs were torn down"
        seen, last = seen + len(answer["records"]), answer["records"][-1]["seq"]


def test_the_kernels_flag_is_cleared_between_the_daemons_and_no_gpu_is_torn_down(driver):
    """As after nvidia-smi -pm 1 where no daemon ran: the flag is all that keeps the GPUs initialised."""
    nvml = ("--nvml", BUILD / "tests/nvml/libnvidia-ml.so.1")
    environment = {"HOLDFAST_SIM_SOCKET": str(driver.sim.socket_path)}
    root = driver.base / "root"
    assert holdfast(root, "set", "on", *nvml, **environment).status == DONE
    disk = driver.base / "disk"  # the simulator's root is its own: nothing else can be written there
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
    assert [gpu["teardowns"] for gpu in driver.sim.status()["gpus"]] == [1, 1], "nothing else holds them"
