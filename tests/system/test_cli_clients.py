# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast clients lists which process has which GPU open."""

import datetime
import os
import re
import shutil
from pathlib import Path

import pytest

from harness import process
from harness.command import PROGRAM, Job, holdfast, opened
from harness.node import RELEASED, THREE, Row

A, B, C = THREE


def rows_of(text):
    lines = text.splitlines()
    titles = re.split(r"  +", lines[0].strip())
    return [dict(zip(titles, re.split(r"  +", line.strip(), maxsplit=len(titles) - 1))) for line in lines[2:]]


def test_each_client_is_listed_with_its_user_and_command(three):
    three.start_daemon(rows=[Row(A, minor=0), Row(B, RELEASED, minor=1, wanted=0), Row(C, minor=2)])
    with opened(three, 0) as first, opened(three, 2) as second:
        result = holdfast(three.root, "clients")
        rows = rows_of(result.out)
        only = rows_of(holdfast(three.root, "clients", "--gpu", C).out)
    assert result.status == 0
    assert [(row["GPU"], row["PID"], row["User"], row["Command"]) for row in rows] == [
        ("0", str(first.pid), "root", "cat"), ("2", str(second.pid), "root", "cat")]
    assert [row["PID"] for row in only] == [str(second.pid)]


def test_clients_json_also_has_the_time_and_the_uid(three):
    before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=2)
    with opened(three, 1) as job:
        document = holdfast(three.root, "clients", "--json").json("clients")
        after = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    assert document["complete"] and not document["modeset"]
    client, = document["clients"]
    since = datetime.datetime.fromisoformat(client.pop("since").replace("Z", "+00:00"))
    client.pop("container")
    assert before <= since <= after
    assert client == {"gpu": 1, "address": B, "pid": job.pid, "uid": 0, "user": "root", "name": "cat", "command": "cat",
                      "descriptors": 1, "daemon": False}


def test_the_daemon_is_listed_and_marked_as_the_daemon(three):
    three.start_daemon(rows=[Row(A, minor=0), Row(B, minor=1), Row(C, minor=2)])
    # The scripted daemon runs in this process.
    fd = os.open(three.root / "dev/nvidia1", os.O_RDWR)
    try:
        document = holdfast(three.root, "clients", "--json").json("clients")
        text = holdfast(three.root, "clients").out
    finally:
        os.close(fd)
    assert [(client["gpu"], client["pid"], client["daemon"]) for client in document["clients"]] == [
        (1, os.getpid(), True)]
    assert "(daemon) " in text


def test_clients_says_that_no_process_has_a_gpu_open(three):
    assert holdfast(three.root, "clients").out == "no process has a GPU open\n"
    assert holdfast(three.root, "clients", "--json").json("clients")["clients"] == []


def test_clients_says_that_nvidia_drm_drives_displays(three):
    three.write("sys/module/nvidia_drm/parameters/modeset", "Y\n")
    assert "nvidia-drm drives displays" in holdfast(three.root, "clients").out
    assert holdfast(three.root, "clients", "--json").json("clients")["modeset"]


def test_an_ordinary_user_is_told_which_processes_are_not_shown(three):
    program = Path(shutil.copy(PROGRAM, three.root))
    with opened(three, 0):
        result = holdfast(three.root, "clients", program=program, user=process.NOBODY)
    assert result.status == 0
    assert result.out == ("no process of yours has a GPU open\n"
                          "processes of other users cannot be seen; run as root to see them.\n")


def test_escape_sequences_in_a_command_line_do_not_reach_the_terminal(three):
    script = three.root / "a\033[2Jb (x) y"
    shutil.copy("/bin/cat", script)
    script.chmod(0o755)
    job = Job(three.root / "dev/nvidia0", command=[script])
    try:
        out = holdfast(three.root, "clients").out
        name = holdfast(three.root, "clients", "--json").json("clients")["clients"][0]["name"]
    finally:
        job.end()
    assert "\033" not in out and "a?[2Jb (x) y" in out
    assert name == "a?[2Jb (x) y"


def test_clients_has_an_exit_status_for_each_kind_of_error(three, node):
    assert holdfast(three.root, "clients", "--gpu=9").status == 5
    assert holdfast(three.root, "clients", "extra").status == 2
    shutil.rmtree(node.root / "proc")
    result = holdfast(node.root, "clients")
    assert result.status == 1 and "driver is not loaded" in result.err


@pytest.mark.holdfast_only("the command reads files below --root")
@pytest.mark.parametrize("backend", ["kernel"])  # behind the shim no process has a node open
def test_on_the_simulated_driver_the_daemon_and_a_job_are_listed(world):
    daemon = world.start()
    job = Job(world.site.root / "dev/nvidia1")
    try:
        clients = holdfast(world.site.root, "clients", "--json").json("clients")["clients"]
    finally:
        job.end()
    assert [(client["gpu"], client["pid"], client["daemon"]) for client in clients if not client["daemon"]] == [
        (1, job.pid, False)]
    assert {(client["gpu"], client["pid"]) for client in clients if client["daemon"]} == {(0, daemon.pid), (1, daemon.pid)}
