# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast metrics prints Prometheus' text format, which promtool checks."""

import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import time

import pytest

from harness.command import PROGRAM, environment, holdfast
from harness.node import FAILED, OPENING, RELEASED, THREE, UNKNOWN, YES, Row

A, B, C = THREE
STATES = ("released", "opening", "held", "closing", "failed")

LABEL = r'(\w+)="((?:[^"\\\n]|\\.)*)"'
SERIES = re.compile(rf"(\w+)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


def promtool_faults(text):
    """The findings of Prometheus' own parser and linter."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is missing: package prometheus")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30,
                          check=False)
    return done.stdout + done.stderr


class Metrics(dict):
    """{name: {labels as a frozenset of pairs: value}}.

    This also fails on faults that promtool accepts: a family without series, a duplicate series, a family in two parts.
    """

    def __init__(self, text):
        super().__init__()
        faults = promtool_faults(text)
        assert faults == "", faults
        current = None
        for line in text.splitlines():
            if line.startswith("# HELP "):
                current = line.split(" ")[2]
                assert current not in self, f"{current} appears twice"
                self[current] = {}
            elif not line.startswith("# TYPE "):
                self._add(current, line)
        for name, series in self.items():
            assert series, f"{name} has no series"

    def _add(self, current, line):
        match = SERIES.fullmatch(line)
        assert match and match[1] == current, f"not a series of {current}: {line}"
        labels = re.findall(LABEL, match[2] or "")
        key = frozenset((name, re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), value)) for name, value in labels)
        assert key not in self[current], f"duplicate series: {line}"
        self[current][key] = float(match[len(match.groups())])

    def value(self, name, **labels):
        found = [value for key, value in self[name].items() if set(labels.items()) <= key]
        assert len(found) == 1, f"{name}{labels}: {len(found)} series"
        return found[0]


def metrics(root):
    result = holdfast(root, "metrics")
    assert (result.status, result.err) == (0, "")
    return Metrics(result.out)


def test_every_value_that_the_daemon_reports_of_a_gpu_is_exported(three):
    three.start_daemon(rows=[
        Row(A, opens=2, failures=1, uvm=2), Row(B, FAILED, opens=0, failures=7, open_duration=0, error="no power", since=0),
        Row(C, RELEASED, wanted=0, leased=1, legacy=YES)])
    found = metrics(three.root)
    assert found.value("holdfast_up") == 1 and found.value("holdfast_gpus") == 3
    assert found.value("holdfast_daemon_info", kind="holdfast", version="9.8.7", backend="kernel") == 1
    assert found.value("holdfast_daemon_start_time_seconds") == 1_799_999_999
    expected = {
        "held": (1, 0, 0), "persistence_mode": (1, 0, 1), "legacy_flag": (0, 0, 1), "wanted": (1, 1, 0),
        "leased": (0, 0, 1), "stuck": (0, 0, 0), "opens_total": (2, 0, 1), "failures_total": (1, 7, 0),
        "uvm_persistence": (1, 0, 0), "uvm_waiting": (0, 0, 0), "open_duration_seconds": (1.473, None, 1.473),
        "state_since_timestamp_seconds": (1_800_000_000.123456, None, 1_800_000_000.123456),
    }
    for name, values in expected.items():
        for index, value in enumerate(values):
            if value is None:
                assert not any(("gpu", str(index)) in key for key in found[f"holdfast_gpu_{name}"])
            else:
                assert found.value(f"holdfast_gpu_{name}", gpu=str(index)) == pytest.approx(value, abs=1e-6), name
    for index, state in enumerate(("held", "failed", "released")):
        for name in STATES:
            assert found.value("holdfast_gpu_state", gpu=str(index), state=name) == (name == state)


def test_gpus_have_the_same_labels_as_in_dcgm_exporter(three):
    three.start_daemon(rows=[Row(A), Row(B), Row(C)])
    found = metrics(three.root)
    assert found.value("holdfast_gpu_info", gpu="1", pci_bus_id="00000000:3A:00.0", model="NVIDIA H100 80GB HBM3",
                       uuid="GPU-00000001-0000-0000-0000-000000000000") == 1
    assert found.value("holdfast_gpu_held", pci_bus_id="00000000:3A:00.0") == 1


def test_an_excluded_gpu_is_distinguished_from_one_that_failed(three):
    three.add_gpu(B, 1, excluded=True)
    three.start_daemon(rows=[Row(A), Row(B, FAILED, opens=0, open_duration=0, errno=1, error="not permitted"), Row(C)])
    found = metrics(three.root)
    assert [found.value("holdfast_gpu_excluded", pci_bus_id=f"00000000:{bus}:00.0") for bus in ("17", "3A", "CA")] == [0, 1, 0]


def test_the_daemons_own_counters_are_exported(three):
    names = ("sessions", "sessions_max", "leases", "accepted", "evicted", "expired", "malformed", "calls", "rejected",
             "refused")
    three.start_daemon(rows=[Row(A)], stats=dict(zip(names, range(1, 11))))
    found = metrics(three.root)
    exported = ("sessions", "sessions_limit", "leases", "connections_total", "sessions_evicted_total",
                "sessions_expired_total", "sessions_malformed_total", "calls_total", "calls_rejected_total",
                "calls_refused_total")
    assert [found.value(f"holdfast_{name}") for name in exported] == list(range(1, 11))


def test_unknown_values_are_left_out_and_not_zero(three):
    three.start_daemon(rows=[Row(A, RELEASED, legacy=UNKNOWN), Row(B, OPENING, open_duration=0)])
    found = metrics(three.root)
    assert not any(("gpu", "0") in key for key in found["holdfast_gpu_legacy_flag"])
    assert found.value("holdfast_gpu_persistence_mode", gpu="0") == 0  # NVML answers the same while a daemon runs


def test_with_nvidias_daemon_only_what_it_reports_is_exported(three):
    three.start_daemon(modes={"0000:17:00": (0, 1), "0000:3a:00": (0, 0)})
    found = metrics(three.root)
    assert found.value("holdfast_up") == 1 and found.value("holdfast_daemon_info", kind="nvidia") == 1
    assert [found.value("holdfast_gpu_held", gpu=str(index)) for index in range(3)] == [1, 0, 0]
    assert "holdfast_gpu_state" not in found and "holdfast_gpu_opens_total" not in found


@pytest.mark.parametrize("how", ["none", "silent", "nothing at all"])
def test_without_an_answer_the_scrape_succeeds_and_up_is_0(node, how):
    if how != "nothing at all":
        node.load_driver()
        node.add_gpu(A, 0)
    if how == "silent":
        node.start_daemon(silent=True)
    result = holdfast(node.root, "metrics", "--timeout=0.2")
    assert (result.status, result.err) == (0, "")
    found = Metrics(result.out)
    assert found.value("holdfast_up") == 0
    assert abs(found.value("holdfast_last_check_timestamp_seconds") - time.time()) < 60
    assert ("holdfast_gpu_info" in found) == (how != "nothing at all")
    assert ("holdfast_gpu_held" in found) == (how == "none")


def test_values_of_labels_are_escaped(three):
    three.start_daemon(rows=[Row(A, model='a "b" \\ c\nd', uuid="GPU-\\")])
    three.add_gpu(A, 0, model='x "y" \\z')
    found = metrics(three.root)
    assert found.value("holdfast_gpu_info", gpu="0", model='x "y" \\z') == 1


@pytest.mark.parametrize("text", [
    "a 1\n",  # no help
    "# HELP a B.\n# TYPE a gauge\n",  # no series
    "# HELP a B.\n# TYPE a gauge\na 1\na 1\n",
    "# HELP a B.\n# TYPE a gauge\na 1\n# HELP b B.\n# TYPE b gauge\nb 1\n# HELP a B.\na{c=\"d\"} 1\n",
    "# HELP a B.\n# TYPE a counter\na 1\n",  # a counter without _total
    "# HELP a_ms B.\n# TYPE a_ms gauge\na_ms 1\n",  # no base unit
    "# HELP a B.\n# TYPE a gauge\na{b=\"c\"d\"} 1\n",
    "# HELP a B.\n# TYPE a gauge\nb 1\n",
    "# HELP a B.\n# TYPE a gauge\na 1",  # no line feed
])
def test_the_parser_of_these_tests_rejects_wrong_metrics(text):
    with pytest.raises(AssertionError):
        Metrics(text)


# ---- the textfile collector --------------------------------------------------


@pytest.fixture
def collector(three):
    """node_exporter's folder with an older file in it."""
    folder = three.root / "collector"
    folder.mkdir()
    (folder / "holdfast.prom").write_text("old\n")
    return folder


def test_a_textfile_is_replaced_atomically_and_readable_by_everybody(three, collector):
    three.start_daemon(rows=[Row(A), Row(B), Row(C)])
    path = collector / "holdfast.prom"
    before = path.stat().st_ino
    old_umask = os.umask(0o077)
    try:
        result = holdfast(three.root, "metrics", "--textfile", path)
    finally:
        os.umask(old_umask)
    assert (result.status, result.out, result.err) == (0, "", "")
    assert path.stat().st_ino != before and stat.S_IMODE(path.stat().st_mode) == 0o644
    assert Metrics(path.read_text()).value("holdfast_up") == 1
    assert os.listdir(collector) == ["holdfast.prom"]


def test_a_textfile_is_also_written_without_a_daemon(three, collector):
    assert holdfast(three.root, "metrics", "--textfile", collector / "holdfast.prom").status == 0
    assert Metrics((collector / "holdfast.prom").read_text()).value("holdfast_up") == 0


def test_if_a_textfile_cannot_be_written_the_old_file_stays_and_no_other(three, collector):
    path = collector / "holdfast.prom"

    def small_files_only():
        # Writes past the limit fail, as on a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = subprocess.run([PROGRAM, "--root", three.root, "metrics", "--textfile", path], preexec_fn=small_files_only,
                          env=environment(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == f"holdfast metrics: cannot write {path}: File too large; the old file is unchanged\n"
    assert (path.read_text(), os.listdir(collector)) == ("old\n", ["holdfast.prom"])


@pytest.mark.parametrize("name, status, words", [
    ("gone/holdfast.prom", 1, "No such file or directory"),
    ("holdfast.txt", 2, "does not end in .prom"),
    (".prom", 1, None),
])
def test_a_textfile_in_the_wrong_place_is_refused(three, collector, name, status, words):
    if words is None:
        (collector / ".prom").mkdir()  # a folder cannot be replaced by a file
    result = holdfast(three.root, "metrics", "--textfile", f"{collector}/{name}")
    assert result.status == status and (words or "Is a directory") in result.err
    assert (collector / "holdfast.prom").read_text() == "old\n"
    assert not [entry for entry in os.listdir(collector) if "XX" in entry or re.search(r"prom\..+", entry)]


@pytest.mark.holdfast_only("the command reads files below --root")
def test_the_metrics_of_the_daemon_under_test_are_exported(world, daemon):
    with daemon.connect() as connection:
        connection.get(world.gpus[0])
        found = metrics(world.site.root)
    assert [found.value("holdfast_gpu_held", gpu=str(index)) for index in range(2)] == [1, 1]
    assert found.value("holdfast_gpu_opens_total", gpu="0") == 1
    assert found.value("holdfast_gpu_open_duration_seconds", gpu="0") > 0
    assert found.value("holdfast_sessions") >= 2
    assert found.value("holdfast_connections_total") >= 3
    assert found.value("holdfast_leases") == 0
    assert found.value("holdfast_daemon_ready") == 1
