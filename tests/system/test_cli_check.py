# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast check: its verdicts, and its output for each monitoring system."""

import os
import re
import shutil
import socket
from pathlib import Path

import pytest

from harness import process
from harness.command import PROGRAM, holdfast
from harness.events import wait_until
from harness.node import CLOSING, FAILED, HELD, OPENING, RELEASED, THREE, YES, Row

A, B, C = THREE
OK, WARNING, CRITICAL, UNKNOWN = range(4)
VERDICTS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def all_held(**fields):
    return [Row(A, minor=0, **fields), Row(B, minor=1), Row(C, minor=2)]


def test_if_all_gpus_are_held_check_is_ok_in_one_line_with_figures(three):
    daemon = three.start_daemon(rows=all_held())
    result = holdfast(three.root, "check")
    assert (result.status, result.err) == (OK, "")
    assert result.out == "HOLDFAST OK - 3 of 3 GPUs held by Holdfast 9.8.7 | gpus=3 held=3 problems=0\n"
    assert daemon.lists == 1


def test_a_failed_gpu_is_named_with_its_reason(three):
    three.start_daemon(rows=[Row(A), Row(B), Row(C, FAILED, error="cannot open /dev/nvidia2: no power | fan")])
    result = holdfast(three.root, "check")
    assert result.status == CRITICAL
    assert result.out == (f"HOLDFAST CRITICAL - GPU 2 ({C}) failed: cannot open /dev/nvidia2: no power / fan; "
                          "2 of 3 GPUs held by Holdfast 9.8.7 | gpus=3 held=2 problems=1\n")


@pytest.mark.parametrize("state, fields, on, off, either", [
    (HELD, {}, OK, CRITICAL, OK),
    (HELD, {"uvm": 1, "uvm_text": "the fabric is not ready"}, WARNING, CRITICAL, WARNING),
    (HELD, {"uvm": 2}, OK, CRITICAL, OK),
    (OPENING, {}, WARNING, WARNING, OK),
    (OPENING, {"error": "no power", "errno": 5}, CRITICAL, WARNING, CRITICAL),
    (OPENING, {"stuck": 1}, CRITICAL, CRITICAL, CRITICAL),
    (CLOSING, {}, WARNING, WARNING, OK),
    (CLOSING, {"stuck": 1}, CRITICAL, CRITICAL, CRITICAL),
    (FAILED, {"error": "no power", "errno": 5}, CRITICAL, WARNING, CRITICAL),
    (RELEASED, {"wanted": 0}, CRITICAL, OK, OK),
    (RELEASED, {"wanted": 1}, CRITICAL, WARNING, WARNING),
    (RELEASED, {"wanted": 0, "legacy": YES}, CRITICAL, CRITICAL, OK),
    (RELEASED, {"leased": 1}, WARNING, OK, OK),
])
def test_each_state_has_a_verdict_for_each_expectation(three, state, fields, on, off, either):
    three.start_daemon(rows=[Row(A, state, **fields), Row(B), Row(C)])
    for expected, verdict in (("on", on), ("off", off), ("any", either), ("daemon", OK)):
        document = holdfast(three.root, "check", "--gpu=0", "--expect", expected, "--json").json("check")
        assert (expected, document["verdict"]) == (expected, VERDICTS[verdict])
        assert (document["exit_status"], len(document["problems"])) == (verdict, verdict != OK)
    assert holdfast(three.root, "check", "--gpu=0").status == on


@pytest.mark.parametrize("state, fields, verdict", [
    (RELEASED, {"wanted": 0}, OK),
    (HELD, {}, OK),  # a client switched it on, which is the purpose of --no-persistence-mode
    (FAILED, {"error": "no power", "errno": 5}, CRITICAL),
    (OPENING, {"error": "no power", "errno": 5}, CRITICAL),
    (OPENING, {"stuck": 1}, CRITICAL),
    (RELEASED, {"wanted": 1}, WARNING),
])
def test_a_gpu_that_is_off_as_configured_is_ok(three, state, fields, verdict):
    three.start_daemon(rows=[Row(A, state, configured=0, **fields), Row(B), Row(C)])
    document = holdfast(three.root, "check", "--json").json("check")
    assert (document["expect"], document["verdict"]) == ("configured", VERDICTS[verdict])
    assert (", 1 off as configured" in document["summary"]) == (state == RELEASED and verdict == OK)
    assert holdfast(three.root, "check", "--expect=on").status == (OK if state == HELD else CRITICAL)


def test_a_gpu_that_a_client_switched_off_is_critical(three):
    three.start_daemon(rows=[Row(A, RELEASED, wanted=0), Row(B, RELEASED, wanted=0, configured=0), Row(C)])
    result = holdfast(three.root, "check")
    assert result.status == CRITICAL and f"GPU 0 ({A}) persistence mode is off; 1 of 3" in result.out


def test_if_the_daemon_does_not_report_its_configuration_every_gpu_should_be_held(three):
    three.start_daemon(rows=[Row(A, RELEASED, wanted=0, configured=0), Row(B), Row(C)], lacks={5})
    assert holdfast(three.root, "check").status == CRITICAL
    assert holdfast(three.root, "status", "--json").json("status")["gpus"][0]["detail"]["configured"] is None


def test_the_worst_verdict_counts_and_a_long_list_is_shortened(node):
    addresses = [f"0000:{bus:02x}:00.0" for bus in range(1, 8)]
    node.start_daemon(rows=[Row(addresses[0], OPENING)] + [Row(address, RELEASED) for address in addresses[1:]])
    result = holdfast(node.root, "check")
    assert result.status == CRITICAL
    assert result.out.count("released, though") == 3 and "; and 3 more; 0 of 7 GPUs held" in result.out


def test_fewer_gpus_than_the_minimum_are_critical(three):
    three.start_daemon(rows=all_held())
    assert holdfast(three.root, "check", "--min-gpus", "3").status == OK
    result = holdfast(three.root, "check", "--min-gpus=4")
    assert result.status == CRITICAL and "3 GPUs, fewer than 4" in result.out
    gone = holdfast(three.root, "check", "--gpu=7")
    assert gone.status == CRITICAL and "no GPU '7' among the 3 here" in gone.out


def test_a_daemon_that_is_starting_is_a_warning(three):
    three.start_daemon(rows=all_held(), ready=False)
    result = holdfast(three.root, "check")
    assert result.status == WARNING and "still starting" in result.out


def test_if_only_a_daemon_is_expected_its_gpus_and_readiness_do_not_matter(node):
    """A caller of --expect=daemon restarts the daemon on failure. A restart repairs no GPU, and may tear down the others."""
    node.start_daemon(rows=[], ready=False)
    result = holdfast(node.root, "check", "--expect=daemon")
    assert (result.status, result.err) == (OK, "") and "there are no GPUs to check" in result.out
    node.daemon.rows[:] = [Row(A, FAILED, error="no power"), Row(B)]
    result = holdfast(node.root, "check", "--expect=daemon")
    assert result.status == OK and "1 of 2 GPUs held by Holdfast" in result.out and "failed" not in result.out
    assert holdfast(node.root, "check", "--expect=daemon", "--min-gpus=3").status == CRITICAL


def test_no_daemon_is_critical_unless_off_is_expected(three):
    result = holdfast(three.root, "check")
    assert result.status == CRITICAL and "no persistence daemon is running" in result.out
    assert result.out.endswith("| gpus=3 held=0 problems=0\n")
    assert holdfast(three.root, "check", "--expect=any").status == CRITICAL
    assert holdfast(three.root, "check", "--expect=off").status == OK
    assert holdfast(three.root, "check", "--expect=daemon").status == CRITICAL


def test_a_dead_daemons_socket_is_critical(three):
    three.socket_path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(three.socket_path))
    assert holdfast(three.root, "check").status == CRITICAL


def test_without_driver_and_daemon_or_without_gpus_the_verdict_is_unknown(node):
    result = holdfast(node.root, "check")
    assert result.status == UNKNOWN and "driver is not loaded" in result.out
    node.start_daemon(rows=[])
    result = holdfast(node.root, "check")
    assert result.status == UNKNOWN and "there are no GPUs to check" in result.out
    assert holdfast(node.root, "check", "--min-gpus=1").status == CRITICAL


def test_a_daemon_that_does_not_answer_is_critical_within_the_timeout(three):
    three.start_daemon(silent=True)
    result = holdfast(three.root, "check", "--timeout=0.2")
    assert result.status == CRITICAL and "did not answer within 0.2 s" in result.out


def test_a_socket_without_permission_to_connect_is_unknown(three):
    three.start_daemon(rows=all_held())
    three.socket_path.parent.chmod(0o700)
    program = Path(shutil.copy(PROGRAM, three.root))
    result = holdfast(three.root, "check", program=program, user=process.NOBODY)
    assert result.status == UNKNOWN and "Permission denied" in result.out


def test_a_gpu_that_is_excluded_from_the_driver_is_no_problem(node):
    node.load_driver()
    node.add_gpu(A, 0, excluded=True)
    node.add_gpu(B, 1)
    refused = {"errno": 1, "error": "excluded, or a device cgroup forbids it"}
    node.start_daemon(rows=[Row(A, FAILED, minor=0, **refused), Row(B, minor=1)])
    assert "1 of 1 GPU held" in holdfast(node.root, "check", "--min-gpus=1").out
    node.daemon.rows[1] = Row(B, FAILED, minor=1, **refused)
    result = holdfast(node.root, "check")
    assert result.status == CRITICAL and f"GPU 0 ({B}) failed" in result.out


# ---- NVIDIA's daemon ---------------------------------------------------------


def test_nvidias_daemon_must_have_open_every_gpu_that_it_reports_as_held(three):
    three.start_daemon(modes={"0000:17:00": (0, 1), "0000:3a:00": (0, 1), "0000:ca:00": (0, 1)})
    # The scripted daemon runs in this process, so it has open what the test opens.
    fds = [os.open(three.root / f"dev/nvidia{minor}", os.O_RDWR) for minor in range(3)]
    try:
        result = holdfast(three.root, "check")
        assert result.status == OK and "3 of 3 GPUs held by NVIDIA's nvidia-persistenced" in result.out
        os.close(fds.pop())
        result = holdfast(three.root, "check")
        assert result.status == CRITICAL
        assert f"GPU 2 ({C}) reported as held, but the daemon has not opened it" in result.out
    finally:
        for fd in fds:
            os.close(fd)


def test_a_gpu_that_nvidias_daemon_does_not_hold_or_know_is_critical(three):
    three.start_daemon(modes={"0000:17:00": (0, 0), "0000:3a:00": (2, 0)})
    document = holdfast(three.root, "check", "--json").json("check")
    assert document["exit_status"] == CRITICAL
    assert [problem["reason"] for problem in document["problems"]] == [
        "persistence mode is off", "not known to the daemon", "not known to the daemon"]


# ---- formats -----------------------------------------------------------------


@pytest.mark.parametrize("rows, nhc, npd", [
    (all_held(), (OK, "OK: holdfast: 3 of 3 GPUs held by Holdfast 9.8.7\n"), (0, "3 of 3 GPUs held by Holdfast 9.8.7\n")),
    ([Row(A), Row(B), Row(C, OPENING)],
     (WARNING, f"ERROR: holdfast: GPU 2 ({C}) opening; 2 of 3 GPUs held by Holdfast 9.8.7\n"),
     (1, f"GPU 2 ({C}) opening; 2 of 3 GPUs held by Holdfast 9.8.7\n")),
    ([Row(A), Row(B), Row(C, FAILED, error="no power")],
     (CRITICAL, f"ERROR: holdfast: GPU 2 ({C}) failed: no power; 2 of 3 GPUs held by Holdfast 9.8.7\n"),
     (1, f"GPU 2 ({C}) failed: no power; 2 of 3 GPUs held by Holdfast 9.8.7\n")),
    ([], (UNKNOWN, "ERROR: holdfast: there are no GPUs to check\n"), (2, "there are no GPUs to check\n")),
])
def test_each_monitoring_system_gets_its_own_text_and_exit_status(three, rows, nhc, npd):
    three.start_daemon(rows=rows)
    for name, expected in (("nhc", nhc), ("npd", npd)):
        result = holdfast(three.root, "check", "--format", name)
        assert (result.status, result.out) == expected


@pytest.mark.parametrize("arguments, words", [
    (["--expect=yes"], "--expect: 'yes' is not one of configured, on, off, any, daemon"),
    (["--format=xml"], "--format: 'xml' is not one of nagios, nhc, npd, json"),
    (["--min-gpus=many"], "--min-gpus: 'many' is not a number"),
    (["--mingpus=1"], "unknown option '--mingpus'; did you mean '--min-gpus'?"),
    (["extra"], "unexpected 'extra'"),
])
def test_wrong_usage_is_unknown_and_not_critical(node, arguments, words):
    result = holdfast(node.root, "check", *arguments)
    assert (result.status, result.out) == (UNKNOWN, "")
    assert words in result.err and len(result.err.splitlines()) == 1


# ---- cost --------------------------------------------------------------------


def test_check_asks_the_daemon_once_and_reads_no_file_that_waits_for_the_driver(three):
    """A read of the version file never waits: the kernel module has the text itself."""
    daemon = three.start_daemon(rows=all_held())
    for file in (three.root / "proc/driver/nvidia").rglob("*"):
        if file.is_file() and file.name != "version":  # from now on, an open of the file never returns
            file.unlink()
            os.mkfifo(file)
    assert holdfast(three.root, "check", timeout=10).status == OK
    assert (daemon.lists, len(daemon.connections)) == (1, 1)


@pytest.mark.holdfast_only("the command reads files below --root")
def test_check_of_the_daemon_under_test_is_ok_and_opens_no_gpu(world, daemon):
    result = holdfast(world.site.root, "check", "--min-gpus=2")
    assert (result.status, result.out.split(" | ")[1]) == (OK, "gpus=2 held=2 problems=0\n")
    opened = world.sim.journal("open")
    assert holdfast(world.site.root, "check").status == OK
    assert world.sim.journal("open") == opened


@pytest.mark.holdfast_only("the command reads files below --root")
def test_check_of_the_daemon_under_test_finds_a_gpu_that_fails(world):
    world.simulate(2, gpu1="fail_opens = all")
    world.start()
    result = holdfast(world.site.root, "check")
    assert result.status == CRITICAL
    assert re.search(rf"GPU 1 \({re.escape(world.gpus[1])}\) failed: \w+", result.out)


@pytest.mark.holdfast_only("the command reads files below --root")
@pytest.mark.parametrize("backend", ["kernel"])
def test_a_failed_gpu_stays_failed_while_the_daemon_retries(world):
    """Otherwise a check during a retry would report a broken GPU as opening, and an alert's five minutes would start again."""
    world.simulate(2, gpu1="fail_opens = all")
    world.start()
    world.sim.ctl("hang", gpu=world.gpus[1])
    world.sim.ctl("fail", gpu=world.gpus[1], count=0)
    wait_until(lambda: [gpu["state"] for gpu in holdfast(world.site.root, "status", "--json").json("status")["gpus"]]
               == ["held", "opening"], "the daemon is retrying")
    result = holdfast(world.site.root, "check")
    assert (result.status, f"GPU 1 ({world.gpus[1]}) failed: " in result.out) == (CRITICAL, True), result.out
    assert re.search(r'^holdfast_gpu_state\{gpu="1",.*state="failed"\} 1$', holdfast(world.site.root, "metrics").out,
                     re.MULTILINE)
    world.sim.ctl("hang", gpu=world.gpus[1], on=False)
