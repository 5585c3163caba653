# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The operator's command, holdfast.

The first tests use a node made of files and a scripted daemon, which can report any state at once. The last ones use the
simulated driver and the daemon under test.
"""

import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import shutil
import socket
import subprocess
from pathlib import Path

import jsonschema
import pytest

from conftest import BUILD, TOP
from harness import process
from harness.command import Job, commands, environment, holdfast, opened
from harness.events import wait_until
from harness.node import CLOSING, FAILED, HELD, OPENING, RELEASED, THREE, UNKNOWN, YES, Row

A, B, C = THREE
DONE, FAILURE, USAGE, NO_DAEMON, NOT_PERMITTED, NO_GPU, TIMEOUT = range(7)


def rows_of(text):
    """The rows of the table, each {title: cell}. At least two blanks separate the columns."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("GPU  "))
    titles = re.split(r"  +", lines[at].strip())
    rows = []
    for line in lines[at + 2:]:
        if not line.strip():
            break
        rows.append(dict(zip(titles, re.split(r"  +", line.strip()))))
    return rows


# ---- status: with Holdfast's daemon -----------------------------------------


def test_status_shows_a_line_for_each_gpu_with_all_that_the_daemon_reports(three):
    three.start_daemon(rows=[Row(A, minor=0), Row(B, FAILED, minor=1, failures=4, error="cannot open it: no power"),
                             Row(C, RELEASED, minor=2, wanted=0, opens=0, open_duration=0)])
    result = holdfast(three.root)
    assert result.status == DONE and result.err == ""
    assert result.out.splitlines()[0] == "Holdfast 9.8.7 (pid 4711, kernel backend)  |  driver 595.45.04  |  1 of 3 GPUs held"
    held, failed, released = rows_of(result.out)
    assert held == {"GPU": "0", "Name": "NVIDIA H100 80GB HBM3", "Bus-Id": "00000000:17:00.0",
                    "UUID": "GPU-00000000-0000-0000-0000-000000000000", "Persistence-M": "On", "State": "held",
                    "Since": "2027-01-15 08:00:00", "Open": "1.47 s", "Held by": "daemon"}
    assert (failed["State"], failed["Persistence-M"], failed["Held by"]) == ("failed", "Off", "-")
    assert (released["State"], released["Open"]) == ("released", "-")


def test_status_gives_the_reason_of_each_failure_below_the_table(three):
    three.start_daemon(rows=[Row(A), Row(B, FAILED, failures=4, error="cannot open /dev/nvidia1: no power"),
                             Row(C, OPENING, stuck=1)])
    lines = holdfast(three.root).out.splitlines()
    assert f"GPU 1 {B}: cannot open /dev/nvidia1: no power (4 failed opens so far)" in lines
    stuck = [line for line in lines if line.startswith(f"GPU 2 {C}: stuck in the driver, opening, since 2027-01-15")]
    assert len(stuck) == 1


def test_status_shows_stuck_leased_and_closing_and_why_uvm_is_not_on(three):
    three.start_daemon(rows=[Row(A, OPENING, stuck=1), Row(B, RELEASED, leased=1), Row(C, CLOSING, uvm=1,
                                                                                      uvm_text="the fabric is not ready")])
    result = holdfast(three.root)
    assert [row["State"] for row in rows_of(result.out)] == ["stuck", "leased", "closing"]
    assert f"GPU 2 {C}: UVM persistence is not on yet: the fabric is not ready" in result.out


def test_status_works_with_the_daemon_alone_when_the_drivers_files_are_missing(node):
    node.start_daemon(rows=[Row(A, model="Simulated H100", uuid="GPU-1"), Row(B, model="Simulated H100", uuid="GPU-2")])
    result = holdfast(node.root)
    assert result.status == DONE
    assert "driver not seen" in result.out and "2 of 2 GPUs held" in result.out
    assert [row["Name"] for row in rows_of(result.out)] == ["Simulated H100"] * 2


def test_a_gpu_that_only_the_kernel_flag_keeps_is_persistent_but_not_held(three):
    three.start_daemon(rows=[Row(A, RELEASED, wanted=0, legacy=YES)])
    row = rows_of(holdfast(three.root).out)[0]
    assert (row["Persistence-M"], row["State"], row["Held by"]) == ("On", "released", "kernel flag")


def test_status_names_the_processes_that_have_a_gpu_open(three):
    three.start_daemon(rows=[Row(A, minor=0), Row(B, RELEASED, minor=1, wanted=0)])
    with opened(three, 0) as first, opened(three, 1) as second:
        held, released, _ = rows_of(holdfast(three.root).out)
    assert held["Held by"] == f"daemon, {first.name}"
    assert released["Held by"] == second.name


@pytest.mark.parametrize("daemon", [{"rows": [Row(A, OPENING, minor=0)]}, {"rows": [Row(A, RELEASED, minor=0, wanted=0)]},
                                    {"modes": {"0000:17:00": (0, 0)}}, {"silent": True}],
                         ids=["opening", "released", "nvidia", "silent"])
def test_status_names_the_daemon_as_holder_of_each_gpu_that_it_has_open(three, daemon):
    """A daemon has a GPU open also while opening or closing it, NVIDIA's also after a SetPersistenceModeOnly.

    The scripted daemon runs in the test's process, so the test opens the node.
    """
    three.start_daemon(**daemon)
    with (three.root / "dev/nvidia0").open("rb"), opened(three, 0) as job:
        assert rows_of(holdfast(three.root, "status", "--timeout=1").out)[0]["Held by"] == f"daemon, {job.name}"
        document = holdfast(three.root, "status", "--json", "--timeout=1").json("status")
    assert [client["pid"] for client in document["gpus"][0]["clients"]] == [job.pid]


def test_escape_sequences_from_the_daemon_do_not_reach_the_terminal(three):
    three.start_daemon(rows=[Row(A, FAILED, error="\033[2Jgone\r\n", model="\033]0;title\a")])
    result = holdfast(three.root)
    assert "?[2Jgone??" in result.out
    assert "\033" not in result.out and "\r" not in result.out
    holdfast(three.root, "status", "--json").json("status")


def test_status_says_that_the_daemon_is_starting(three):
    three.start_daemon(rows=[Row(A, OPENING, open_duration=0), Row(B), Row(C)], ready=False)
    assert "2 of 3 GPUs held, starting" in holdfast(three.root).out


# ---- status: with another daemon, or none ------------------------------------


def test_with_nvidias_daemon_status_asks_for_each_gpu_and_says_what_is_unknown(three):
    three.start_daemon(modes={"0000:17:00": (0, 1), "0000:3a:00": (0, 0)})
    result = holdfast(three.root)
    assert result.status == DONE
    assert result.out.startswith(f"NVIDIA's nvidia-persistenced (pid {os.getpid()})  |  driver 595.45.04  |  1 of 3 GPUs held")
    assert [(row["Persistence-M"], row["State"]) for row in rows_of(result.out)] == [
        ("On", "held"), ("Off", "released"), ("Off", "released")]
    assert f"GPU 2 {C}: the daemon knows no GPU at this PCI address" in result.out
    assert "reports only whether" in result.out
    assert "Since" not in result.out


def test_without_a_daemon_status_shows_which_gpus_are_initialised(node):
    node.load_driver()
    node.add_gpu(A, 0, initialised=True)
    node.add_gpu(B, 1)
    with opened(node, 0) as job:
        result = holdfast(node.root)
    assert result.status == DONE
    assert result.out.startswith("no daemon  |  driver 595.45.04  |  1 of 2 GPUs initialised")
    first, second = rows_of(result.out)
    assert (first["State"], first["Persistence-M"], first["Held by"]) == ("initialised", "?", job.name)
    assert (second["State"], second["Persistence-M"], second["Held by"]) == ("not initialised", "Off", "-")
    assert "start nvidia-persistenced" in result.out


def hang(node, address, name):
    """Makes readers of this driver file hang, as when a GPU hangs in its initialisation."""
    path = node.root / f"proc/driver/nvidia/gpus/{address}/{name}"
    path.unlink()
    os.mkfifo(path)


def test_status_stops_waiting_for_a_driver_that_does_not_answer_about_a_gpu(node):
    node.load_driver()
    node.add_gpu(A, 0, initialised=True)
    node.add_gpu(B, 1, initialised=True)
    hang(node, B, "information")
    with opened(node, 0) as job:
        result = holdfast(node.root, timeout=10)
        text = " ".join(result.out.split())
        clients = holdfast(node.root, "clients", "--json", timeout=10).json("clients")
    assert result.status == DONE
    assert [(row["State"], row["Held by"]) for row in rows_of(result.out)] == [
        ("initialised", job.name), ("initialised", "-")]
    assert f"the driver does not answer a read of /proc/driver/nvidia/gpus/{B}/information" in text
    assert f"clients may be missing: the driver does not report which device node belongs to {B}" in text
    assert not clients["complete"]


def test_status_stops_waiting_to_learn_whether_a_gpu_is_initialised(node):
    node.load_driver()
    node.add_gpu(A, 0)
    hang(node, A, "power")
    result = holdfast(node.root, timeout=10)
    assert result.status == DONE and [row["State"] for row in rows_of(result.out)] == ["unknown"]


def test_doctor_reports_a_driver_that_does_not_answer_as_a_problem(three):
    hang(three, A, "information")
    checks = {check["id"]: check for check in holdfast(three.root, "doctor", "--json", timeout=20).json("doctor")["checks"]}
    assert checks["driver-loaded"]["verdict"] == "problem"
    assert "does not answer a read" in checks["driver-loaded"]["summary"]


def test_status_infers_the_kernel_flag_for_an_initialised_gpu_that_nobody_has_open(node):
    node.load_driver()
    node.add_gpu(A, 0, initialised=True)
    row = rows_of(holdfast(node.root).out)[0]
    assert (row["Persistence-M"], row["Held by"]) == ("On", "kernel flag (inferred)")


@pytest.mark.parametrize("daemon", (
    {"rows": [Row(A), Row(B, FAILED, error="no power"), Row(C, RELEASED)]},
    {"modes": {"0000:17:00": (0, 1), "0000:3a:00": (0, 0), "0000:ca:00": (0, 0)}},
))
def test_status_does_not_infer_the_kernel_flag_for_a_gpu_that_was_torn_down(node, daemon):
    node.load_driver()
    for minor, address in enumerate((A, B, C)):
        node.add_gpu(address, minor, initialised=True)
    node.tear_down(B)
    node.tear_down(C)
    node.start_daemon(**daemon)
    rows = rows_of(holdfast(node.root).out)[1:]
    assert [(row["Persistence-M"], row["Held by"]) for row in rows] == [("Off", "-")] * 2


def test_status_does_not_ask_the_driver_while_the_daemon_opens_a_gpu(node):
    """The driver's answer would wait for that. So it is unknown whether the kernel's flag keeps the other GPU."""
    node.load_driver()
    node.add_gpu(A, 0, initialised=True)
    node.add_gpu(B, 1)
    node.start_daemon(rows=[Row(A, RELEASED, wanted=0, legacy=UNKNOWN), Row(B, OPENING)])
    assert [row["Persistence-M"] for row in rows_of(holdfast(node.root, "status").out)] == ["?", "Off"]
    node.daemon.rows[1] = Row(B)
    assert [row["Persistence-M"] for row in rows_of(holdfast(node.root, "status").out)] == ["On", "On"]


def change_once(daemon, rows):
    """Changes the list right after it was read for the first time, as a daemon does that opens a GPU at that moment."""
    if daemon.lists == 1:
        daemon.rows = rows
        daemon.serial += 1


def test_status_reads_again_if_the_list_has_changed_meanwhile(node):
    node.load_driver()
    node.add_gpu(A, 0, initialised=True)
    node.start_daemon(rows=[Row(A, FAILED, error="no power")], after_list=lambda daemon: change_once(daemon, [Row(A)]))
    with opened(node, 0):
        row = rows_of(holdfast(node.root, "status").out)[0]
    assert (row["State"], row["Persistence-M"]) == ("held", "On")


def test_status_ends_although_the_list_changes_all_the_time(node):
    node.load_driver()
    node.add_gpu(A, 0, initialised=True)
    daemon = node.start_daemon(rows=[Row(A)])
    daemon.after_list = lambda daemon: setattr(daemon, "serial", daemon.serial + 1)
    assert rows_of(holdfast(node.root, "status").out)[0]["State"] == "held"
    assert daemon.lists == 5, "three times the list, and twice a look whether it is still the same"


def test_status_does_not_infer_the_kernel_flag_for_a_gpu_that_is_retried(node):
    node.load_driver()
    node.add_gpu(A, 0, initialised=True)  # its interrupts are on, but its initialisation has not succeeded
    node.start_daemon(rows=[Row(A, FAILED, error="no power")])
    assert rows_of(holdfast(node.root).out)[0]["Held by"] == "-"


def test_with_nvidia_drm_modeset_status_does_not_infer_the_kernel_flag(node):
    node.load_driver()
    node.add_gpu(A, 0, initialised=True)
    node.write("sys/module/nvidia_drm/parameters/modeset", "Y\n")
    row = rows_of(holdfast(node.root).out)[0]
    assert (row["Persistence-M"], row["Held by"]) == ("?", "nvidia-drm (inferred)")


def test_with_a_uvm_registration_status_does_not_infer_the_kernel_flag(node):
    node.load_driver()
    node.add_gpu(A, 0, initialised=True, uuid="GPU-abc")
    node.write("proc/driver/nvidia-uvm/gpus/GPU-abc/info", "")
    assert rows_of(holdfast(node.root).out)[0]["Persistence-M"] == "?"


def test_status_reports_within_its_timeout_that_the_daemon_does_not_answer(three):
    three.start_daemon(silent=True)
    result = holdfast(three.root, "status", "--timeout", "0.2")
    assert result.status == DONE
    assert result.out.startswith("daemon does not answer")
    assert "did not answer within 0.2 s" in result.out
    assert [row["Persistence-M"] for row in rows_of(result.out)] == ["?"] * 3


def test_status_takes_the_socket_of_a_dead_daemon_for_no_daemon(three):
    three.socket_path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(three.socket_path))
    result = holdfast(three.root)
    assert result.status == DONE
    assert result.out.startswith("no daemon") and "no process listens on" in result.out


def test_without_driver_and_daemon_status_and_query_fail_in_one_line(node):
    for command in (["status"], ["query", "--fields", "index"]):
        result = holdfast(node.root, *command)
        assert result.status == FAILURE
        assert "driver is not loaded" in result.err and "no persistence daemon" in result.err
        assert len(result.err.splitlines()) == 1


def test_an_excluded_gpu_comes_last_and_shifts_no_index(node):
    node.load_driver()
    node.add_gpu(A, 0, excluded=True)
    node.add_gpu(B, 1)
    first, second = rows_of(holdfast(node.root).out)
    assert (first["GPU"], first["Bus-Id"]) == ("0", "00000000:3A:00.0")
    assert (second["GPU"], second["Bus-Id"], second["State"]) == ("1", "00000000:17:00.0", "excluded")
    assert holdfast(node.root, "query", "--fields", "index,pci.bus_id,count", "--format=csv,noheader").out == (
        "0, 00000000:3A:00.0, 1\n")


def test_an_ordinary_user_is_told_once_that_other_users_processes_are_not_shown(three):
    three.start_daemon(rows=[Row(A), Row(B), Row(C)])
    program = Path(shutil.copy(BUILD / "src/cli/holdfast", three.root))
    result = holdfast(three.root, program=program, user=process.NOBODY)
    assert result.status == DONE and "3 of 3 GPUs held" in result.out
    assert result.out.count("run as root to see them") == 1
    assert "run as root" not in holdfast(three.root).out


# ---- status: looks -----------------------------------------------------------


def test_at_80_columns_the_table_fits(three):
    three.start_daemon(rows=[Row(A, minor=0), Row(B, FAILED, minor=1, error="a sentence that is long " * 9), Row(C)])
    with opened(three, 0):
        result = holdfast(three.root, COLUMNS="80")
    assert max(map(len, result.out.splitlines())) <= 80
    assert [row["Bus-Id"] for row in rows_of(result.out)] == [A, B, C]
    assert "a sentence" in result.out


def test_at_120_columns_the_table_is_complete(three):
    three.start_daemon(rows=[Row(A), Row(B), Row(C)])
    result = holdfast(three.root, COLUMNS="120")
    assert max(map(len, result.out.splitlines())) <= 120
    assert "Since" in rows_of(result.out)[0]


def on_terminal(root, *arguments, **extra):
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen([BUILD / "src/cli/holdfast", "--root", root, *arguments], stdin=subprocess.DEVNULL,
                              stdout=theirs, stderr=subprocess.PIPE, env=environment(COLUMNS="120", **extra)) as child:
            os.close(theirs)
            text = b""
            while select.select([ours], [], [], 20)[0]:
                try:
                    text += os.read(ours, 65536)
                except OSError:  # EIO: the other side is closed
                    break
            assert child.wait(timeout=20) == DONE
        return text.decode()
    finally:
        os.close(ours)


@pytest.mark.parametrize("extra, coloured", [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True),
                                             ({"TERM": "dumb"}, False)])
def test_only_terminals_that_support_and_want_colours_get_them(three, extra, coloured):
    three.start_daemon(rows=[Row(A), Row(B), Row(C)])
    assert ("\033[" in on_terminal(three.root, "status", **extra)) == coloured
    assert "\033[" not in holdfast(three.root, **extra).out


# ---- status: JSON ------------------------------------------------------------


@pytest.mark.parametrize("script, kind", [
    ({"rows": [Row(A, minor=0), Row(B, FAILED, errno=5, nv_status=0x1c, failures=3, error="no power", uvm=1,
                                    legacy=UNKNOWN), Row(C, RELEASED, since=0, open_duration=0, opens=0)]}, "holdfast"),
    ({"modes": {"0000:17:00": (0, 1)}}, "nvidia"),
    ({"silent": True}, "silent"),
    (None, "none"),
])
def test_status_json_fits_its_schema_with_each_kind_of_daemon(three, script, kind):
    if script is not None:
        three.start_daemon(**script)
    with opened(three, 0) as job:
        document = holdfast(three.root, "status", "--json", "--timeout", "0.5").json("status")
    assert document["daemon"]["kind"] == kind
    assert [gpu["address"] for gpu in document["gpus"]] == [A, B, C]
    assert document["gpus"][0]["clients"] == [{"pid": job.pid, "name": "cat", "descriptors": 1}]
    assert (document["gpus"][0]["detail"] is not None) == (kind == "holdfast")


def test_status_json_has_the_details_of_a_failure(three):
    three.start_daemon(rows=[Row(A, FAILED, errno=5, nv_status=0x1c, failures=3, error="no power")])
    gpu = holdfast(three.root, "status", "--json", "--gpu", "0").json("status")["gpus"][0]
    assert gpu["detail"]["error"] == {"text": "no power", "errno": 5, "nv_status": 0x1c}
    assert (gpu["state"], gpu["held"], gpu["persistence_mode"]) == ("failed", False, "off")


def test_the_status_schema_rejects_a_document_without_a_required_key(three):
    document = holdfast(three.root, "status", "--json").json("status")
    del document["gpus"][0]["held"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads((TOP / "docs/schemas/status.json").read_text()))


# ---- naming GPUs -------------------------------------------------------------


@pytest.mark.parametrize("name", ["1", B, "00000000:3A:00.0", "3a:00.0", "3a:00", "PCI:0000:3a:00.0", "GPU-00000001",
                                  "gpu-00000001-0000-0000-0000-000000000000"])
def test_a_gpu_answers_to_every_name_it_has(three, name):
    result = holdfast(three.root, "query", "--fields", "pci.bus_id", "--gpu", name, "--format", "csv,noheader")
    assert (result.status, result.out) == (DONE, "00000000:3A:00.0\n")


@pytest.mark.parametrize("names", [["--gpu", "0,2"], ["--gpu=2", "--gpu=0"], ["-i", f"{A},{C}"], ["--id=0,0,2"]])
def test_several_gpus_are_named_with_commas_or_with_repeated_options(three, names):
    result = holdfast(three.root, "query", "--fields=index", "--format=csv,noheader", *names)
    assert result.out.split() == ["0", "2"]


@pytest.mark.parametrize("command", [["status"], ["query", "--fields=index"], ["set", "on"]])
def test_a_gpu_that_does_not_exist_has_its_own_exit_status(three, command):
    three.start_daemon(rows=[Row(A), Row(B), Row(C)])
    result = holdfast(three.root, *command, "--gpu", "7")
    assert result.status == NO_GPU
    assert "no GPU '7' among the 3 here" in result.err
    assert three.daemon.sets == []


def test_a_uuid_prefix_that_matches_several_gpus_is_refused(three):
    result = holdfast(three.root, "query", "--fields=index", "--gpu", "GPU-0000000")
    assert result.status == USAGE and "the beginning of 3 UUIDs" in result.err


@pytest.mark.parametrize("name", ["", "x", "0,", ",", "-1", "0x1", "17", "nvidia0", "0000:17:00.9", "9" * 100])
def test_what_cannot_be_the_name_of_a_gpu_is_refused(three, name):
    result = holdfast(three.root, "query", "--fields=index", f"--gpu={name}")
    assert result.status == (NO_GPU if name == "17" else USAGE)
    assert len(result.err.splitlines()) == 1


# ---- query -------------------------------------------------------------------


def test_query_prints_as_nvidia_smi_does(three):
    three.start_daemon(rows=[Row(A), Row(B, RELEASED), Row(C)])
    assert holdfast(three.root, "query", "--query-gpu=index,name,persistence_mode", "--format=csv").out == (
        "index, name, persistence_mode\n"
        "0, NVIDIA H100 80GB HBM3, Enabled\n"
        "1, NVIDIA H100 80GB HBM3, Disabled\n"
        "2, NVIDIA H100 80GB HBM3, Enabled\n")


def test_query_takes_nvidia_smis_aliases_and_prints_the_full_names(three):
    result = holdfast(three.root, "query", "--fields", "gpu_name,gpu_bus_id,gpu_uuid,vbios_version", "-i", "0")
    assert result.out == ("name, pci.bus_id, uuid, vbios_version\n"
                          "NVIDIA H100 80GB HBM3, 00000000:17:00.0, GPU-00000000-0000-0000-0000-000000000000, "
                          "96.00.9f.00.01\n")


def test_query_prints_the_parts_of_a_pci_address_the_count_and_the_time(three):
    result = holdfast(three.root, "query", "--fields", "timestamp,driver_version,count,pci.domain,pci.bus,pci.device",
                      "--gpu=2", "--format=csv,noheader")
    assert re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}, 595\.45\.04, 3, 0x0000, 0xCA, 0x00\n", result.out)


def test_query_prints_units_in_the_header_and_after_values_unless_nounits_is_given(three):
    three.start_daemon(rows=[Row(A), Row(B, FAILED, open_duration=0), Row(C)])
    ask = ["query", "--fields", "holdfast.open_ms", "--gpu=0,1"]
    assert holdfast(three.root, *ask).out == "holdfast.open_ms [ms]\n1473 ms\n[N/A]\n"
    assert holdfast(three.root, *ask, "--format=csv,nounits,noheader").out == "1473\n[N/A]\n"


def test_query_says_not_available_and_not_supported_where_nvidia_smi_would(node):
    node.load_driver()
    node.add_gpu(A, 0, bios="??.??.??.??.??", initialised=True)
    with opened(node, 0):
        result = holdfast(node.root, "query", "--fields", "vbios_version,persistence_mode,holdfast.since,holdfast.failures",
                          "--format=csv,noheader")
    assert result.out == "[N/A], [N/A], [Not Supported], [Not Supported]\n"


def test_query_prints_the_minor_that_slurm_uses_as_its_index(node):
    node.load_driver()
    for address, minor in (A, 3), (B, 0):
        node.add_gpu(address, minor)
    out = holdfast(node.root, "query", "--fields=index,holdfast.minor", "--format=csv,noheader").out
    assert out == "0, 3\n1, 0\n"


def test_query_quotes_values_that_contain_commas_or_quotes(three):
    three.start_daemon(rows=[Row(A, FAILED, error='cannot open "it", so far'), Row(B), Row(C)])
    out = holdfast(three.root, "query", "--fields=index,holdfast.error,holdfast.failures", "--gpu=0").out
    assert list(csv.reader(io.StringIO(out), skipinitialspace=True))[1] == ["0", 'cannot open "it", so far', "0"]


def test_every_field_has_a_value_in_csv_and_json(three):
    three.start_daemon(rows=[Row(A, uvm=2), Row(B), Row(C)])
    names = re.findall(r"^  (\S+)", holdfast(None, "query", "--list-fields").out, re.M)
    names = [name for name in names if re.fullmatch(r"[a-z._]+", name)]
    assert {"index", "persistence_mode", "holdfast.held_by", "holdfast.legacy_flag", "holdfast.uvm"} <= set(names)
    result = holdfast(three.root, "query", "--fields", ",".join(names), "--gpu", "0")
    header, row = csv.reader(io.StringIO(result.out), skipinitialspace=True)
    assert [name.split(" ")[0] for name in header] == names and len(row) == len(names)
    document = holdfast(three.root, "query", "--json", "--fields", ",".join(names)).json("query")
    assert [sorted(gpu) for gpu in document["gpus"]] == [sorted(names)] * 3
    assert document["gpus"][0]["holdfast.open_ms"] == 1473


@pytest.mark.parametrize("fields, meant", [("indx", "index"), ("index,persistance_mode", "persistence_mode"),
                                           ("gpu_nmae", None), ("temperature.gpu", None), ("", None), ("index,", None)])
def test_an_unknown_field_is_named_in_one_line(three, fields, meant):
    result = holdfast(three.root, "query", f"--fields={fields}")
    assert result.status == USAGE and result.out == ""
    assert f"unknown field '{fields.split(',')[-1]}'" in result.err and len(result.err.splitlines()) == 1
    assert (f"did you mean '{meant}'?" in result.err) if meant else ("did you mean" not in result.err)


def test_query_asks_the_daemon_only_for_fields_that_need_it(three):
    daemon = three.start_daemon(rows=[Row(A), Row(B), Row(C)])
    holdfast(three.root, "query", "--fields=index,name,uuid,pci.bus_id")
    assert daemon.lists == 0
    holdfast(three.root, "query", "--fields=persistence_mode")
    assert daemon.lists == 2, "the second time to see whether the list is still the same"


# ---- set ---------------------------------------------------------------------


@pytest.mark.parametrize("word, value", [("on", 1), ("1", 1), ("ENABLED", 1), ("off", 0), ("0", 0), ("Disabled", 0)])
def test_set_asks_the_daemon_for_each_gpu(three, word, value):
    three.start_daemon(rows=[Row(A), Row(B), Row(C)])
    result = holdfast(three.root, "set", word, "--gpu", "0,2")
    assert result.status == DONE and result.err == ""
    assert three.daemon.sets == [("0000:17:00", value), ("0000:ca:00", value)]
    mode = "on" if value else "off"
    assert [line.rsplit(" (", 1)[0] for line in result.out.splitlines()] == [
        f"GPU 0 {A}: persistence mode {mode}", f"GPU 2 {C}: persistence mode {mode}"]


@pytest.mark.parametrize("answer, status, words", [
    (2, NO_GPU, "the daemon knows no GPU"),
    (3, FAILURE, "the driver refused"),
    (4, FAILURE, "out of memory"),
    (7, NOT_PERMITTED, "only root of the host may change it"),
    (10, FAILURE, "could not be brought on- or offline"),
])
def test_set_has_a_message_and_an_exit_status_for_each_refusal(three, answer, status, words):
    three.start_daemon(modes={}, set_status=answer)
    result = holdfast(three.root, "set", "on", "--gpu", B)
    assert result.status == status
    assert result.err.startswith(f"holdfast set: GPU 1 {B}: persistence mode not on: ") and words in result.err
    document = holdfast(three.root, "set", "on", "--gpu", B, "--json").json("set")
    assert document["gpus"][0]["exit_status"] == status and words in document["gpus"][0]["error"]


def test_set_prints_the_drivers_reason_if_the_daemon_reports_it(three):
    three.start_daemon(rows=[Row(A, FAILED, error="cannot open /dev/nvidia0: no power")], set_status=3)
    result = holdfast(three.root, "set", "on", "--gpu=0")
    assert result.status == FAILURE
    assert "cannot open /dev/nvidia0: no power (the daemon keeps retrying)" in result.err


def test_set_continues_after_a_failure_and_exits_with_the_status_of_the_first(three):
    three.start_daemon(modes={}, set_status=7)
    result = holdfast(three.root, "set", "off")
    assert result.status == NOT_PERMITTED and len(result.err.splitlines()) == 3
    assert len(three.daemon.sets) == 3


def test_set_gives_up_on_a_daemon_that_does_not_answer(three):
    three.start_daemon(silent=True)
    result = holdfast(three.root, "set", "on", "--timeout", "0.2")
    assert result.status == TIMEOUT and "did not answer within 0.2 s" in result.err


def test_without_a_daemon_set_with_a_root_does_not_change_the_machines_gpus(three):
    result = holdfast(three.root, "set", "on")
    assert result.status == NO_DAEMON
    assert "no persistence daemon is running" in result.err and "--nvml FILE" in result.err


def test_without_a_daemon_and_nvml_set_names_the_library_that_it_could_not_use(three):
    result = holdfast(three.root, "set", "on", "--nvml", "/nonexistent/libnvidia-ml.so.1")
    assert result.status == NO_DAEMON and "/nonexistent/libnvidia-ml.so.1" in result.err
    result = holdfast(three.root, "set", "on", "--nvml", "libm.so.6")
    assert result.status == NO_DAEMON and "libm.so.6 has no nvml" in result.err


# ---- wait --------------------------------------------------------------------


def test_wait_returns_when_every_wanted_gpu_is_held(three):
    three.start_daemon(rows=[Row(A), Row(B, RELEASED, wanted=0), Row(C)])
    result = holdfast(three.root, "wait", "--timeout", "20")
    assert result.status == DONE and result.err == ""
    assert result.out.splitlines()[:2] == [f"GPU 0 {A}: held, opened in 1.47 s", f"GPU 2 {C}: held, opened in 1.47 s"]
    assert re.fullmatch(r"2 of 2 GPUs held after .*", result.out.splitlines()[2])


def test_wait_prints_a_line_for_each_change(three):
    def next_state(daemon):
        if daemon.lists == 1:
            daemon.rows = [Row(A, FAILED, open_duration=0, error="no power"), Row(B), Row(C)]
        elif daemon.lists == 2:
            daemon.rows, daemon.ready = [Row(A), Row(B), Row(C)], True
    three.start_daemon(rows=[Row(A, OPENING, open_duration=0), Row(B), Row(C)], ready=False, after_list=next_state)
    result = holdfast(three.root, "wait", "--timeout", "20")
    assert result.status == DONE
    assert [line for line in result.out.splitlines() if line.startswith("GPU 0")] == [
        f"GPU 0 {A}: opening", f"GPU 0 {A}: failed: no power", f"GPU 0 {A}: held, opened in 1.47 s"]
    assert sum(line.startswith("GPU 1") for line in result.out.splitlines()) == 1


def test_wait_does_not_return_before_the_daemon_has_tried_every_gpu(three):
    def ready_at_last(daemon):
        daemon.ready = daemon.lists >= 1
    daemon = three.start_daemon(rows=[Row(A), Row(B), Row(C)], ready=False, after_list=ready_at_last)
    assert holdfast(three.root, "wait", "--timeout", "20").status == DONE
    assert daemon.lists == 2


def test_wait_subscribes_to_changes_and_does_not_poll(three):
    daemon = three.start_daemon(rows=[Row(A), Row(B), Row(C, OPENING, open_duration=0)])
    assert holdfast(three.root, "wait", "--timeout", "1").status == FAILURE
    assert (daemon.lists, daemon.watches) == (2, 1), "expected one List at the start, one Watch, one List at the end"


@pytest.mark.parametrize("wanted", [0, 1])
def test_wait_waits_for_a_gpu_that_the_driver_lists_and_the_daemon_does_not_list_yet(three, wanted):
    daemon = three.start_daemon(rows=[Row(A), Row(B)])
    result = holdfast(three.root, "wait", "--timeout=0")
    assert result.status == FAILURE and f"GPU 2 {C}: unknown: the daemon does not list it yet" in result.err
    document = holdfast(three.root, "wait", "--timeout=0", "--json").json("wait")
    assert (document["outcome"], document["needed"], document["held"]) == ("timeout", 3, 2)

    def hear_of_it(daemon):
        daemon.rows = [Row(A), Row(B), Row(C, HELD if wanted else RELEASED, wanted=wanted)]
    daemon.after_list = hear_of_it
    result = holdfast(three.root, "wait", "--timeout=20")
    assert result.status == DONE and f"{2 + wanted} of {2 + wanted} GPUs held after" in result.out


def test_wait_names_the_missing_gpus_and_the_reasons_when_it_times_out(three):
    three.start_daemon(rows=[Row(A), Row(B, FAILED, open_duration=0, error="no power"), Row(C, OPENING, open_duration=0)])
    result = holdfast(three.root, "wait", "--timeout", "0.3")
    assert result.status == FAILURE
    assert "1 of 3 GPUs held; missing:" in result.err
    assert result.err.splitlines()[1:] == [f"  GPU 1 {B}: failed: no power", f"  GPU 2 {C}: opening"]


def test_wait_for_a_gpu_that_the_daemon_should_not_hold_says_how_to_change_that(three):
    three.start_daemon(rows=[Row(A), Row(B, RELEASED, wanted=0), Row(C, FAILED)])
    assert holdfast(three.root, "wait", "--gpu", "0").status == DONE
    result = holdfast(three.root, "wait", "--gpu", "1", "--timeout", "0")
    assert result.status == FAILURE and "'holdfast set on --gpu 1' holds it" in result.err


def test_wait_waits_for_the_daemon_itself(three):
    result = holdfast(three.root, "wait", "--timeout", "0.2")
    assert result.status == NO_DAEMON and "no persistence daemon is running" in result.err
    assert result.out.count("waiting: no persistence daemon") == 1
    with subprocess.Popen([BUILD / "src/cli/holdfast", "--root", three.root, "wait", "--timeout", "20"],
                          stdout=subprocess.PIPE, text=True, env=environment()) as waiter:
        assert waiter.stdout.readline().startswith("waiting: no persistence daemon is running")
        three.start_daemon(rows=[Row(A), Row(B), Row(C)])
        assert waiter.wait(timeout=20) == DONE


def test_wait_asks_nvidias_daemon_for_each_gpu(three):
    daemon = three.start_daemon(modes={"0000:17:00": (0, 1), "0000:3a:00": (0, 1), "0000:ca:00": (0, 0)})
    result = holdfast(three.root, "wait", "--timeout=0")
    assert result.status == FAILURE and f"GPU 2 {C}: released" in result.err
    daemon.modes["0000:ca:00"] = (0, 1)
    assert holdfast(three.root, "wait", "--timeout=0").status == DONE


def test_wait_json_fits_its_schema_for_each_outcome(three):
    assert holdfast(three.root, "wait", "--json", "--timeout=0").json("wait")["outcome"] == "no-daemon"
    daemon = three.start_daemon(rows=[Row(A), Row(B, FAILED, error="no power"), Row(C)])
    document = holdfast(three.root, "wait", "--json", "--timeout=0").json("wait")
    assert document["outcome"] == "timeout"
    assert document["missing"] == [{"index": 1, "address": B, "state": "failed", "reason": "failed: no power"}]
    daemon.rows[1] = Row(B)
    assert holdfast(three.root, "wait", "--json", "--timeout=0").json("wait")["outcome"] == "held"


def test_wait_keeps_one_line_up_to_date_on_a_terminal(three):
    three.start_daemon(rows=[Row(A), Row(B), Row(C)])
    text = on_terminal(three.root, "wait")
    assert "\r\033[K3 of 3 GPUs held" in text and "GPU 0" not in text


# ---- usage -------------------------------------------------------------------


@pytest.mark.parametrize("arguments, words", [
    (["statsu"], "unknown command 'statsu'; did you mean 'status'?"),
    (["frobnicate"], "unknown command 'frobnicate'"),
    (["--jsn"], "unknown option '--jsn'; did you mean '--json'?"),
    (["status", "--gpuu=3"], "unknown option '--gpuu'; did you mean '--gpu'?"),
    (["status", "-x"], "unknown option '-x'"),
    (["status", "--json=yes"], "--json takes no value"),
    (["status", "extra"], "unexpected 'extra'"),
    (["status", "--gpu"], "--gpu needs a value"),
    (["query"], "--fields NAME,... is missing"),
    (["query", "--fields=index", "--format=xml"], "'xml' is not one of csv, noheader, nounits"),
    (["query", "--fields=index", "--format=noheader"], "csv is missing"),
    (["set"], "on or off is missing"),
    (["set", "maybe"], "'maybe' is not one of on, off"),
    (["set", "on", "off"], "more than one mode"),
    (["wait", "--timeout", "soon"], "'soon' is not a number of seconds"),
    (["wait", "--timeout", "nan"], "'nan' is not a number of seconds"),
    (["wait", "--timeout=-1"], "'-1' is not a number of seconds"),
])
def test_wrong_usage_is_one_line_with_a_pointer_to_the_help(node, arguments, words):
    result = holdfast(node.root, *arguments)
    assert result.status == USAGE and result.out == ""
    assert words in result.err and "--help)" in result.err and len(result.err.splitlines()) == 1


def test_help_fits_on_a_screen_and_lists_every_command():
    main = holdfast(None, "--help")
    assert main.status == DONE and main.err == ""
    for command in commands():
        assert re.search(rf"^  {command} +\w", main.out, re.M)
        text = holdfast(None, command, "--help").out
        assert f"Usage: holdfast {command}" in text and "Exit status:" in text and "Examples:" in text
        assert len(text.splitlines()) <= 48
        assert max(map(len, text.splitlines())) <= 80
    assert len(main.out.splitlines()) <= 30


def test_the_manual_page_has_every_command_and_option():
    page = (TOP / "docs/man/holdfast.1.scd").read_text()
    sections = {part.split("\n")[0]: part for part in page.split("\n# ")}
    for command in commands():
        assert f"*holdfast {command}*" in sections["SYNOPSIS"] or f"[*{command}*]" in sections["SYNOPSIS"]
        options = holdfast(None, command, "--help").out.split("Options:")[1].split("Exit status:")[0]
        for option in re.findall(r"--[a-z-]+", options):
            text = sections[command.upper()] + sections["OPTIONS"]
            assert f"*{option}*" in text, f"{option} of {command} is not in the manual page"


def test_the_version_option_works_before_and_after_a_command():
    first = holdfast(None, "--version")
    assert re.fullmatch(r"holdfast \d+\.\d+\.\d+\n", first.out)
    assert holdfast(None, "status", "--version").out == first.out


def test_the_root_may_come_from_the_environment_but_the_option_takes_precedence(three, tmp_path):
    assert holdfast(None, "query", "--fields=count", HOLDFAST_ROOT=str(three.root)).status == DONE
    assert holdfast(three.root, "query", "--fields=count", HOLDFAST_ROOT=str(tmp_path)).status == DONE
    assert holdfast(None, "query", "--fields=count", "--root", three.root, HOLDFAST_ROOT=str(tmp_path)).status == DONE


def test_output_that_is_lost_is_a_failure():
    with open("/dev/full", "w", encoding="utf-8") as full:
        result = holdfast(None, "--help", stdout=full)
    assert result.status == FAILURE and "cannot write the output: No space left on device" in result.err


def test_a_reader_that_closes_the_pipe_causes_no_message():
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as pipe:
        result = holdfast(None, "--help", stdout=pipe)
    assert result.status == FAILURE and result.err == ""


# ---- on the simulated driver, with the daemon under test -----------------------


@pytest.fixture
def ask(world):
    """Runs the command in the test's world."""
    def run(*arguments, **how):
        if world.site.other:
            pytest.skip("holdfast only: another daemon runs outside the --root of the test")
        return holdfast(world.site.root, *arguments, HOLDFAST_SIM_SOCKET=str(world.sim.socket_path), **how)
    return run


@pytest.mark.holdfast_only("the command reads files below --root")
def test_status_of_the_running_daemon_shows_every_gpu_held(world, daemon, ask):
    document = ask("status", "--json").json("status")
    assert (document["daemon"]["kind"], document["daemon"]["pid"]) == ("holdfast", daemon.pid)
    assert [gpu["address"] for gpu in document["gpus"]] == world.gpus
    for gpu in document["gpus"]:
        assert (gpu["state"], gpu["persistence_mode"], gpu["clients"]) == ("held", "on", [])
        assert gpu["detail"]["open_ms"] > 0
    assert "2 of 2 GPUs held" in ask().out


@pytest.mark.holdfast_only("the command reads files below --root")
def test_set_off_tears_down_the_gpu_and_set_on_holds_it_again(world, daemon, ask):
    first = world.gpus[0]
    assert ask("set", "off", "--gpu", first).status == DONE
    wait_until(lambda: not world.sim.gpu(first)["initialised"], "the teardown")
    assert ask("query", "--fields=persistence_mode", "--format=csv,noheader").out == "Disabled\nEnabled\n"
    assert ask("set", "on").status == DONE
    assert world.sim.gpu(first)["initialised"]
    assert ask("wait", "--timeout=20").status == DONE


@pytest.mark.holdfast_only("the command reads files below --root")
def test_status_names_a_gpu_that_fails_and_wait_gives_its_reason(world, ask):
    world.simulate(2, gpu1="fail_opens = all")
    world.start()
    def shown():
        return [row["State"] for row in rows_of(ask().out)] == ["held", "failed"]

    def given():
        return f"GPU 1 {world.gpus[1]}: failed: " in ask("wait", "--timeout=0").err

    # The daemon retries the GPU: during a retry its state is "opening".
    wait_until(shown, "status shows the GPU as failed")
    assert re.search(rf"^GPU 1 {world.gpus[1]}: .+", ask().out, re.M)
    wait_until(given, "wait gives the reason")
    assert ask("wait", "--timeout=0").status == FAILURE


@pytest.mark.holdfast_only("the command reads files below --root")
def test_status_and_query_never_open_a_gpu(world, ask):
    world.simulate(2)
    if world.backend != "kernel":
        assert ask().status == FAILURE  # behind the shim there are no driver files, and there is no daemon
    else:
        assert [row["State"] for row in rows_of(ask().out)] == ["not initialised"] * 2
        assert ask("query", "--fields=index,uuid,persistence_mode,holdfast.held_by").status == DONE
    assert world.sim.journal("open", "opened", "initialised") == []


def legacy(driver, *arguments, **how):
    return holdfast(driver.base / "root", *arguments, HOLDFAST_SIM_SOCKET=str(driver.sim.socket_path), **how)


def test_without_a_daemon_set_uses_the_kernel_flag_and_warns(driver):
    library = BUILD / "tests/nvml/libnvidia-ml.so.1"
    result = legacy(driver, "set", "on", "--gpu=1", "--nvml", library)
    assert result.status == DONE
    assert "warning: no persistence daemon is running" in result.err and "deprecates" in result.err
    assert result.out.startswith(f"GPU 1 {driver.gpus[1]}: kernel flag on")
    assert [gpu["legacy"] for gpu in driver.sim.status()["gpus"]] == [False, True]
    cold, kept = rows_of(legacy(driver, "status").out)
    assert (cold["Persistence-M"], kept["Persistence-M"]) == ("Off", "On")
    assert kept["Held by"] == "kernel flag (inferred)"
    assert legacy(driver, "set", "off", "--nvml", library).status == DONE
    assert [gpu["legacy"] for gpu in driver.sim.status()["gpus"]] == [False, False]


@pytest.mark.parametrize("with_daemon", (True, False))
def test_status_does_not_infer_the_kernel_flag_while_a_gpu_is_being_torn_down(driver, with_daemon):
    """The driver disables a GPU's interrupts only at the end of a teardown."""
    address = driver.gpus[0]
    if with_daemon:
        driver.start()
        assert legacy(driver, "set", "off", "--gpu", address).status == DONE
        wait_until(lambda: not driver.sim.gpu(address)["initialised"], "the first teardown")
    job = Job(driver.base / "root/dev/nvidia0")
    driver.sim.ctl("hang", gpu=address, which="close")
    job.end()
    wait_until(lambda: driver.sim.gpu(address)["usage_count"] == 0, "the last close")
    row = rows_of(legacy(driver, "status").out)[0]
    assert driver.sim.gpu(address)["initialised"]
    assert (row["Persistence-M"], row["Held by"]) == ("Off", "-")
    driver.sim.ctl("hang", gpu=address, which="close", on=False)


def dead_socket(driver):
    """Makes the socket that a killed daemon leaves."""
    path = driver.base / "root/run/nvidia-persistenced/socket"
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return path


def test_set_falls_back_to_the_kernel_flag_behind_a_dead_socket_though_nvml_does_not(driver):
    """NVML requires an answer from the daemon as long as the socket exists, so the command removes a dead socket."""
    library = BUILD / "tests/nvml/libnvidia-ml.so.1"
    path = dead_socket(driver)
    result = legacy(driver, "set", "on", "--gpu=1", "--nvml", library, HOLDFAST_ROOT=str(driver.base / "root"))
    assert result.status == DONE and "no process listens on" in result.err
    assert [gpu["legacy"] for gpu in driver.sim.status()["gpus"]] == [False, True]
    assert not path.exists()


def test_a_dead_socket_stays_while_a_daemon_is_starting(driver):
    library = BUILD / "tests/nvml/libnvidia-ml.so.1"
    path = dead_socket(driver)
    with open(path.parent / "nvidia-persistenced.pid", "w") as pid_file:
        fcntl.lockf(pid_file, fcntl.LOCK_EX)
        result = legacy(driver, "set", "on", "--nvml", library)
    assert result.status == FAILURE and "a persistence daemon is just starting" in result.err
    assert path.exists()


def test_set_does_not_use_the_kernel_flag_while_a_daemon_is_starting_that_has_no_socket_yet(driver):
    """A daemon locks its pid file, looks for its keeper for up to 7 s, and then makes its socket."""
    folder = driver.base / "root/run/nvidia-persistenced"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "nvidia-persistenced.pid", "w") as pid_file:
        fcntl.lockf(pid_file, fcntl.LOCK_EX)
        result = legacy(driver, "set", "on", "--nvml", BUILD / "tests/nvml/libnvidia-ml.so.1")
    assert result.status == FAILURE and "a persistence daemon is just starting" in result.err
    assert [gpu["legacy"] for gpu in driver.sim.status()["gpus"]] == [False, False]


def test_an_ordinary_user_may_not_set_the_kernel_flag(driver):
    program = Path(shutil.copy(BUILD / "src/cli/holdfast", driver.base))
    library = shutil.copy(BUILD / "tests/nvml/libnvidia-ml.so.1", driver.base)
    result = legacy(driver, "set", "on", "--nvml", library, program=program, user=process.NOBODY)
    assert result.status == NOT_PERMITTED and "run this as root" in result.err
    assert [gpu["legacy"] for gpu in driver.sim.status()["gpus"]] == [False, False]


def test_persistence_is_unknown_if_the_flag_is_unknown_and_another_process_has_the_gpu_open(node):
    """This also holds with a daemon, since NVML asks the driver, and reports \"on\" if the flag is set."""
    node.load_driver()
    node.add_gpu(A, 0, initialised=True)
    node.add_gpu(B, 1)
    node.start_daemon(rows=[Row(A, RELEASED, wanted=0, legacy=UNKNOWN), Row(B, RELEASED, wanted=0, legacy=UNKNOWN)])
    with opened(node, 0):
        in_use, cold = rows_of(holdfast(node.root, "status").out)
        assert (in_use["Persistence-M"], cold["Persistence-M"]) == ("?", "Off")
        assert "[N/A]" in holdfast(node.root, "query", "--fields=persistence_mode").out


def test_status_says_where_nvidia_smi_numbers_gpus_differently(three):
    three.start_daemon(rows=[Row(A, FAILED, error="no power", errno=5), Row(B), Row(C)])
    assert "note: nvidia-smi leaves out GPU 0" in holdfast(three.root, "status").out.replace("\n      ", " ")
    three.daemon.rows[0] = Row(A, OPENING, error="no power", errno=5)
    assert "leaves out GPU 0" in holdfast(three.root, "status").out, "the GPU is being retried and has not recovered"
    three.daemon.rows = [Row(A), Row(B), Row(C, FAILED, error="no power", errno=5)]
    assert "leaves out" not in holdfast(three.root, "status").out, "no GPU follows the failed one, so no number differs"


def test_a_job_on_the_simulated_driver_is_seen_as_a_client(driver):
    job = Job(driver.base / "root/dev/nvidia0")
    try:
        document = legacy(driver, "status", "--json").json("status")
    finally:
        job.end()
    assert [client["pid"] for client in document["gpus"][0]["clients"]] == [job.pid]
    assert document["gpus"][0]["initialised"] and not document["gpus"][1]["initialised"]
