# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Every command on a terminal (tmux) of 80 and of 160 columns: no line is wider, tables use the width, NO_COLOR works, and
redrawn lines stay in place."""

import os
import shutil
from pathlib import Path

import pytest

from harness import process
from harness.command import PROGRAM, Job, commands
from harness.node import FAILED, HELD, OPENING, RELEASED, THREE, Row
from harness.tmux import screen

A, B, C = THREE
WIDTHS = (80, 160)
REASON = ("cannot open /dev/nvidia1: Input/output error, NV_ERR_INSUFFICIENT_POWER; the GPU did not initialise; the kernel "
          "log has the reason in a line with RmInitAdapter or Xid")

# Commands that people use, and their mistakes. JSON and metrics are not among them: programs read these, at any width.
COMMANDS = [
    ["status"],
    ["status", "--gpu=0"],
    ["query", "--fields=index,name,pci.bus_id,persistence_mode"],
    ["query", "--list-fields"],
    ["set", "off", "--gpu=0,1"],
    ["wait", "--timeout=0"],
    ["check"],
    ["check", "--format=nhc"],
    ["check", "--format=npd"],
    ["clients"],
    ["bench"],
    ["release", "--dry-run"],
    ["release", "--dry-run", "--force", "--", "nvidia-smi", "--gpu-reset"],
    ["doctor"],
    ["doctor", "--verbose"],
    ["takeover"],
    ["takeover", "--status"],
    ["--help"],
]
MISTAKES = [
    ["statsu"],
    ["status", "--gpuu=3"],
    ["status", "--gpu=x"],
    ["status", "--gpu=7"],
    ["query", "--fields=temperature.gpu"],
    ["query", "--fields=persistance_mode"],
    ["set", "maybe"],
    ["wait", "--timeout=soon"],
    ["metrics", "--textfile=/tmp/holdfast.txt"],
    ["release"],
    ["release", "--gpu=2", "--", "true"],
]

if not shutil.which("tmux"):
    pytestmark = pytest.mark.skip(reason="tmux is missing")


@pytest.fixture(scope="module", params=WIDTHS)
def terminal(request):
    with screen(request.param) as opened:
        yield opened


def failing(node):
    node.start_daemon(set_status=3, rows=[
        Row(A, minor=0), Row(B, FAILED, minor=1, opens=0, failures=3, errno=5, nv_status=28, open_duration=0, error=REASON),
        Row(C, minor=2, uvm=1, uvm_text="the NVLink fabric is not ready")])


def nothing(node):
    pass


def nvidias(node):
    node.start_daemon(modes={A[:10]: (0, 1), B[:10]: (0, 0)})


def silent(node):
    node.start_daemon(silent=True)


def assert_fits(terminal, text):
    """Checks that no line is wider than the terminal. Long paths and commands to copy may be."""
    broken = [line for line in terminal.broken_lines() if " " in line.strip() and not line.startswith("    cure ")]
    assert not broken, f"wider than {terminal.columns} columns:\n" + "\n".join(broken)
    assert not any("Sanitizer" in line for line in text), text


# ---- the width of lines --------------------------------------------------------


@pytest.mark.parametrize("how", [failing, nothing, nvidias], ids=lambda how: how.__name__)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_line_of_a_command_is_wider_than_the_terminal(three, terminal, command, how):
    how(three)
    job = Job(three.root / "dev/nvidia0")
    try:
        text = terminal.run(three.root, *command)
    finally:
        job.end()
    assert text, "nothing was printed"
    assert_fits(terminal, text)


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_no_line_about_a_mistake_is_wider_than_the_terminal(three, terminal, command):
    failing(three)
    text = terminal.run(three.root, *command)
    assert terminal.status != 0 and text[0].startswith("holdfast")
    assert_fits(terminal, text)


@pytest.mark.parametrize("command", [["status"], ["query", "--fields=index"], ["set", "on"], ["check"], ["clients"],
                                     ["wait", "--timeout=0"], ["release", "--", "true"]], ids=" ".join)
def test_no_line_about_a_missing_driver_is_wider_than_the_terminal(node, terminal, command):
    text = terminal.run(node.root, *command)
    assert terminal.status != 0
    assert_fits(terminal, text)


@pytest.mark.parametrize("command", [["status", "--timeout=0.1"], ["set", "on", "--timeout=0.1"],
                                     ["check", "--timeout=0.1"]], ids=" ".join)
def test_no_line_about_a_silent_daemon_is_wider_than_the_terminal(three, terminal, command):
    silent(three)
    text = terminal.run(three.root, *command)
    assert any("did not answer" in line for line in terminal.lines("-J")) or "not answer" in " ".join(text)
    assert_fits(terminal, text)


def test_no_help_is_wider_than_the_terminal_or_longer_than_a_screen(node, terminal):
    for command in commands():
        text = terminal.run(node.root, command, "--help")
        assert terminal.status == 0 and len(text) <= 50, command
        assert_fits(terminal, text)


# ---- the width of tables -------------------------------------------------------


def test_a_table_has_the_columns_that_fit(three, terminal):
    failing(three)
    text = "\n".join(terminal.run(three.root))
    assert "H100 80GB HBM3" in text and ".." not in text
    for part in ("UUID", "Persistence-M", "Since", "NVIDIA H100", "00000000:17:00.0", "GPU-00000000-0000"):
        assert (part in text) == (terminal.columns == 160), part


def test_the_table_of_eight_gpus_with_clients_has_complete_names(node, terminal):
    node.load_driver()
    for minor in range(8):
        node.add_gpu(f"0000:{minor + 16:02x}:00.0", minor)
    node.start_daemon(rows=[Row(f"0000:{minor + 16:02x}:00.0", minor=minor) for minor in range(8)])
    jobs = [Job(node.root / "dev/nvidia3") for _ in range(6)]
    try:
        text = terminal.run(node.root)
    finally:
        for job in jobs:
            job.end()
    assert_fits(terminal, text)
    row = next(line for line in text if line.startswith("  3  "))
    assert "H100 80GB HBM3" in row and ".." not in row
    assert row.endswith(f"daemon, {jobs[0].name}, 5 more" if terminal.columns == 80 else
                        f"daemon, {jobs[0].name}, {jobs[1].name}, 4 more")
    assert ("Since" in "\n".join(text)) == (terminal.columns == 160)


# ---- colours -------------------------------------------------------------------


@pytest.mark.parametrize("command", [["status"], ["doctor"], ["clients"]], ids=" ".join)
def test_no_color_switches_colours_off(three, terminal, command):
    failing(three)
    job = Job(three.root / "dev/nvidia0")
    try:
        terminal.run(three.root, *command)
        coloured = terminal.lines("-e")
        terminal.run(three.root, *command, NO_COLOR="1")
        plain = terminal.lines("-e")
    finally:
        job.end()
    assert any("\033[" in line for line in coloured)
    assert not any("\033[" in line for line in plain)


# ---- redrawn lines -------------------------------------------------------------


def test_wait_keeps_one_line_up_to_date_whatever_the_number_of_gpus(node, terminal):
    addresses = [f"0000:{minor + 16:02x}:00.0" for minor in range(16)]
    node.load_driver()
    for minor, address in enumerate(addresses):
        node.add_gpu(address, minor)
    daemon = node.start_daemon(rows=[Row(address, OPENING, open_duration=0) for address in addresses])
    terminal.start(node.root, "wait")
    terminal.wait_for(r"^0 of 16 GPUs held \[>{16}\]")
    daemon.rows = [Row(address, FAILED if address == addresses[3] else HELD) for address in addresses]
    terminal.wait_for(r"^15 of 16 GPUs held \[###!#{12}\] \d+\.\d s; failed 3$")
    assert len(terminal.lines()) == 1
    daemon.rows = [Row(address) for address in addresses]
    terminal.wait_for("^16 of 16 GPUs held after")
    assert len(terminal.lines()) == 1


def test_watch_redraws_the_table_in_place_and_adapts_to_another_width(three, terminal):
    daemon = three.start_daemon(rows=[Row(A, minor=0), Row(B, minor=1), Row(C, minor=2)])
    terminal.start(three.root, "status", "--watch")
    terminal.wait_for("3 of 3 GPUs held")
    before = len(terminal.lines())
    daemon.rows = [Row(A, minor=0), Row(B, RELEASED, minor=1, wanted=0), Row(C, minor=2)]
    terminal.wait_for("2 of 3 GPUs held")
    text = terminal.lines()
    assert len(text) == before and sum("GPUs held" in line for line in text) == 1
    assert_fits(terminal, text)
    narrow, wide = r"\bPers-M\b", r"\bUUID\b"
    terminal.resize(160 if terminal.columns == 80 else 80)
    terminal.wait_for(wide if terminal.columns == 80 else narrow)
    terminal.resize(terminal.columns)
    terminal.wait_for(narrow if terminal.columns == 80 else wide)
    terminal.press("C-c")
    terminal.wait_for(r"^\[ended: 0\]$")


def test_no_line_for_an_ordinary_user_is_wider_than_the_terminal(three, terminal):
    failing(three)
    program = Path(shutil.copy(PROGRAM, three.root))
    if os.geteuid() != 0:
        pytest.skip("root is missing: the test calls as another user")
    for command in (["status"], ["clients"], ["release", "--", "true"]):
        text = terminal.run(three.root, *command, program=program, user=process.NOBODY)
        assert "root" in " ".join(text)
        assert_fits(terminal, text)


def test_these_tests_find_a_line_that_is_too_wide(three, terminal):
    failing(three)
    text = terminal.run(three.root, "check", "--json")
    with pytest.raises(AssertionError, match="wider than"):
        assert_fits(terminal, text)
