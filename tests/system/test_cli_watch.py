# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast status --watch redraws in place on a terminal, and otherwise appends each change with the time.

With --json it prints one object a line.
"""

import contextlib
import json
import re
import signal
import subprocess

import jsonschema
import pytest

from conftest import TOP
from harness import events
from harness.command import PROGRAM, environment, holdfast, opened
from harness.node import FAILED, RELEASED, THREE, Row
from harness.terminal import CTRL_C, on_terminal

A, B, C = THREE
DONE, FAILURE, NO_GPU = 0, 1, 5
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
SCHEMA = json.loads((TOP / "docs/schemas/status.json").read_text())


@contextlib.contextmanager
def watching(root, *arguments, **extra):
    """Runs the command with its standard output on a pipe, whose lines are in `out`."""
    command = [PROGRAM, "--root", root, "status", "--watch", *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment(**extra)) as child:
        child.out = events.Lines("holdfast status --watch", child.stdout)
        try:
            yield child
        finally:
            child.kill()


def end(child, number=signal.SIGTERM):
    child.send_signal(number)
    return child.wait(timeout=10)


@pytest.fixture
def daemon(three):
    return three.start_daemon(rows=[Row(A), Row(B), Row(C)])


# ---- without a terminal


def test_without_a_terminal_each_change_is_appended_with_the_time(three, daemon):
    with watching(three.root) as child:
        child.out.wait_for(f"^{TIME}  watching$")
        child.out.wait_for("3 of 3 GPUs held")
        daemon.rows = [Row(A), Row(B, FAILED, failures=1, error="no power"), Row(C)]
        child.out.wait_for(f"^{TIME}  changed$")
        child.out.wait_for("2 of 3 GPUs held")
        child.out.wait_for(f"^GPU 1 {B}: no power")
        assert end(child) == DONE
    assert not child.out.has("\033")


def test_watch_prints_nothing_while_nothing_changes(three, daemon):
    """watch polls every 2 s for what no daemon reports, such as a new client. The test waits for two such polls."""
    with watching(three.root, "--gpu=0") as child:
        child.out.wait_for("3 of 3 GPUs held")
        with opened(three, 0) as job:
            child.out.wait_for(re.escape(job.name), timeout=20)
        daemon.rows = [Row(A), Row(B, RELEASED, wanted=0), Row(C)]
        child.out.wait_for("2 of 3 GPUs held")
        end(child)
    heads = [line for line in child.out.all if re.match(TIME, line)]
    assert 2 < len(heads) <= 4, heads  # the job's end may be seen before the other change, or with it


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_watch_continues_until_a_signal(three, daemon, number):
    with watching(three.root) as child:
        child.out.wait_for("3 of 3 GPUs held")
        assert end(child, number) == DONE


def test_watch_ends_when_its_reader_has_closed_the_pipe(three, daemon):
    with watching(three.root) as child:
        child.out.wait_for("3 of 3 GPUs held")
    command = f"{PROGRAM} --root {three.root} status --watch | head -n 1"
    done = subprocess.run(["sh", "-c", command], env=environment(), timeout=30, check=True, capture_output=True, text=True)
    assert re.fullmatch(f"{TIME}  watching\n", done.stdout) and done.stderr == ""


def test_watch_json_prints_one_object_with_the_time_on_each_line(three, daemon):
    with watching(three.root, "--json") as child:
        child.out.wait_for("holdfast.status/1")
        daemon.rows = [Row(A), Row(B), Row(C, RELEASED, wanted=0)]
        child.out.wait_for('"state":"released"')
        end(child)
        child.out.wait_end(5)
    first, second = map(json.loads, child.out.all)
    for document in first, second:
        jsonschema.validate(document, SCHEMA)
    assert (first["held"], second["held"]) == (3, 2) and first["time"] < second["time"]


def test_watch_fails_at_its_start_if_a_gpu_does_not_exist(three, daemon):
    result = holdfast(three.root, "status", "--watch", "--gpu=9")
    assert result.status == NO_GPU and result.out == "" and "no GPU '9'" in result.err


def test_watch_reports_a_gpu_that_is_removed_and_shows_it_when_it_is_back(node):
    daemon = node.start_daemon(rows=[Row(A), Row(B)])
    with watching(node.root, "--gpu=1") as child:
        child.out.wait_for("2 of 2 GPUs held")
        daemon.rows = [Row(A)]
        child.out.wait_for("no GPU '1'")
        daemon.rows = [Row(A), Row(B, RELEASED, wanted=0)]
        child.out.wait_for("1 of 2 GPUs held")
        end(child)


# ---- other daemons, or none


def test_watch_polls_nvidias_daemon_and_says_so(three):
    daemon = three.start_daemon(modes={"0000:17:00": (0, 1), "0000:3a:00": (0, 1), "0000:ca:00": (0, 1)})
    with watching(three.root) as child:
        child.out.wait_for("NVIDIA's daemon does not report changes, so it is asked every 2 s")
        child.out.wait_for("3 of 3 GPUs held|held")
        daemon.modes["0000:3a:00"] = (0, 0)
        child.out.wait_for("released", timeout=20)
        end(child)


def test_without_driver_and_daemon_watch_waits_for_them(node):
    with watching(node.root) as child:
        child.out.wait_for(f"^{TIME}  no daemon, waiting$")
        child.out.wait_for("driver is not loaded")
        node.start_daemon(rows=[Row(A)])
        child.out.wait_for(f"^{TIME}  daemon is there$", timeout=20)
        child.out.wait_for("1 of 1 GPU held")
        end(child)


@pytest.mark.parametrize("backend", ["kernel"])
@pytest.mark.holdfast_only("the command reads files below --root")
def test_watch_shows_when_the_daemon_ends_and_returns(world, daemon_of_world):
    with watching(world.site.root) as child:
        child.out.wait_for("2 of 2 GPUs held")
        daemon_of_world.stop()
        child.out.wait_for(f"^{TIME}  daemon gone, waiting$")
        world.start()
        child.out.wait_for(f"^{TIME}  daemon is there$", timeout=20)
        shown = len(child.out.all)
        holdfast(world.site.root, "set", "off", "--gpu=1")
        events.wait_until(lambda: any("released" in line for line in child.out.all[shown:]), "the change is shown", timeout=10)
        end(child)


@pytest.fixture
def daemon_of_world(world):
    return world.start()


# ---- on a terminal


def test_on_a_terminal_watch_redraws_in_place(three, daemon):
    with on_terminal(three.root, "status", "--watch") as terminal:
        terminal.wait_for(f"{TIME}  watching .Ctrl-C ends it")
        drawn = sum("\n" not in line and "\033[K" in line for line in terminal.lines.all)
        daemon.rows = [Row(A), Row(B, RELEASED, wanted=0), Row(C)]
        terminal.wait_for(f"{TIME}  changed .Ctrl-C ends it")
        assert any(f"\033[{drawn}A" in line for line in terminal.lines.all), "the cursor does not go up to the first line"
        terminal.press(CTRL_C)
        assert terminal.wait() == DONE


def test_watch_adapts_at_once_to_a_new_terminal_size(three, daemon):
    with on_terminal(three.root, "status", "--watch", columns=120) as terminal:
        terminal.wait_for("Persistence-M")
        terminal.resize(80, 24)
        terminal.wait_for("Pers-M")
        assert any("\033[2J" in line for line in terminal.lines.all)
        terminal.press(CTRL_C)
        assert terminal.wait() == DONE


def test_watch_cuts_what_does_not_fit_and_counts_the_missing_lines(three, daemon):
    with on_terminal(three.root, "status", "--watch", rows=6) as terminal:
        left_out = int(terminal.wait_for(r"\.\.\. (\d+) more lines").group(1))
        shown = sum("\033[K" in line for line in terminal.lines.all)
        assert shown == 5 and left_out >= 4
        terminal.press(CTRL_C)
        assert terminal.wait() == DONE


def test_on_a_terminal_without_cursor_movement_watch_appends(three, daemon):
    with on_terminal(three.root, "status", "--watch", TERM="dumb") as terminal:
        terminal.wait_for(f"{TIME}  watching\r?$")
        daemon.rows = [Row(A), Row(B, RELEASED, wanted=0), Row(C)]
        terminal.wait_for(f"{TIME}  changed\r?$")
        terminal.press(CTRL_C)
        assert terminal.wait() == DONE
    assert not terminal.lines.has("\033")
