# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Drop-ins that machines have, on our units and on units for NVIDIA's daemon: the table of docs/compatibility.md.

For each cell every GPU is held, or the start fails once with an error that names the line to change and that doctor repeats.
`pytest ... --capture=no` prints the row of each unit as it was found.
"""

import os
import re
from pathlib import Path

import pytest

from harness.events import wait_until

pytestmark = pytest.mark.each_debian(ci=False)

UNITS = Path(__file__).resolve().parent / "foreign-units"
TOP = Path(__file__).resolve().parents[2]
SERVICE = "nvidia-persistenced.service"
FOLDER = f"/etc/systemd/system/{SERVICE}.d"
DROP_IN = f"{FOLDER}/override.conf"
PROGRAM = "/usr/bin/nvidia-persistenced"

OURS = ("nvidia-persistenced.service", "holdfast.service", "template of Holdfast")
FOREIGN = ("appliance", "bottlerocket", "debian", "fedora", "nixos", "rpm-nvidia", "template", "ubuntu", "ubuntu-nvidia")


# A unit takes 13 s with all drop-ins, so CI tries only those that most machines have.
TRIED = OURS + (("debian", "ubuntu") if "CI" in os.environ else FOREIGN)


def started_with(options):
    return f"ExecStart=\nExecStart={PROGRAM} {options}\n"


# The name of the row, and what the drop-in says in [Service].
DROP_INS = {
    "none": "",
    "`--user nvidia-persistenced`": started_with("--user nvidia-persistenced --persistence-mode --verbose"),
    "`--user root`": started_with("--user root --persistence-mode --verbose"),
    "`--user nvpd`": started_with("--user nvpd"),
    "`User=`": "User=\n",
    "`User=root`": "User=root\n",
    "`User=root`, `--user nvidia-persistenced`": "User=root\n" + started_with("--user nvidia-persistenced"),
    "`User=nvpd`": "User=nvpd\n",
    "`Group=video`": "Group=video\n",
    "`Group=video`, `--user nvidia-persistenced`": "Group=video\n" + started_with("--user nvidia-persistenced"),
    "`DynamicUser=yes`": "DynamicUser=yes\n",
    "`SupplementaryGroups=video`": "SupplementaryGroups=video\n",
    "commands that need root": "ExecStartPre=/usr/local/sbin/needs-root\nExecStartPost=/usr/local/sbin/needs-root\n",
    "`ExecStartPost=holdfast set on`": "ExecStartPost=/usr/bin/holdfast set on\n",
    "`Type=forking`": "Type=forking\n" + started_with("--user nvidia-persistenced"),
    "`ExecStartPre=` that fails": "ExecStartPre=/usr/local/sbin/fails before\n",
    "`ExecStartPost=` that fails": "ExecStartPost=/usr/local/sbin/fails after\n",
    "`Restart=always`, `--user nvpd`": "Restart=always\n" + started_with("--user nvpd"),
}

# What the journal must say for a cell that is not "held". Doctor must quote it.
SENTENCES = {
    "names `--user`, `User=`": r"cannot become user '[\w-]+' \(--user\).*User= and Group=.*or remove --user",
    "names the command": r"fails (before|after): no such switch|install: cannot|Insufficient Permissions|only root of the host may change it",
    "names `RuntimeDirectory=`": r"cannot (create|write to) the runtime directory .*set RuntimeDirectory=nvidia-persistenced",
}


def table():
    """Returns the table of the documentation: {drop-in: {unit: cell}}."""
    text = (TOP / "docs/compatibility.md").read_text()
    begin = text.index("| drop-in |")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in text[begin:text.index("\n\n", begin)].splitlines()]
    return {row[0]: dict(zip(rows[0][1:], row[1:])) for row in rows[2:]}


def show(node, unit, name):
    return node.exec("systemctl", "show", f"--property={name}", "--value", unit).strip()


@pytest.fixture(scope="module")
def prepared(lab, debian):
    """A node with the users of distributions and the programs that drop-ins name."""
    node = lab.node(debian=debian).boot().simulate().install()
    for user in ("nvidia", "nvpd"):
        node.exec("useradd", "--system", "--user-group", user)
    node.exec("mkdir", "-p", "/nix/store/nvidia-persistenced/bin")
    node.exec("ln", "-s", PROGRAM, "/nix/store/nvidia-persistenced/bin/")
    node.write("/usr/local/sbin/needs-root", '#!/bin/sh\n[ "$(id -u)" = 0 ] && exec touch /usr/needs-root /run/needs-root\n'
               'echo "Insufficient Permissions" >&2\nexit 4\n')
    node.write("/usr/local/sbin/fails", '#!/bin/sh\necho "fails $1: no such switch" >&2\nexit 3\n')
    node.exec("chmod", "+x", "/usr/local/sbin/needs-root", "/usr/local/sbin/fails")
    yield node
    node.remove()


@pytest.fixture
def clean(prepared):
    yield prepared
    prepared.exec("sh", "-c", f"systemctl stop {SERVICE} holdfast.service; systemctl reset-failed; "
                  f"rm -rf /etc/systemd/system/{SERVICE} {FOLDER} /etc/systemd/system/holdfast.service.d "
                  f"/etc/systemd/system/multi-user.target.wants/{SERVICE} /run/nvidia-persistenced; systemctl daemon-reload")
    prepared.gpus.users()


def place(node, unit):
    """Installs this unit on the node; returns its name."""
    if unit == "holdfast.service":
        return unit
    if unit == "template of Holdfast":
        text = (TOP / "packaging/sample/nvidia-persistenced.service.template").read_text()
        node.write(f"/etc/systemd/system/{SERVICE}", text.replace("__USER__", "nvidia-persistenced"))
    elif unit in FOREIGN:
        node.put(UNITS / f"{unit}.service", f"/etc/systemd/system/{SERVICE}")
    if unit == "ubuntu":  # a udev rule would start it; without a dependent unit systemd stops it at once
        node.exec("systemctl", "add-wants", "multi-user.target", SERVICE)
    return SERVICE


def words_since(node, unit, cursor):
    node.exec("journalctl", "--sync")
    return node.exec("journalctl", "--quiet", "--output=cat", f"--after-cursor={cursor}", f"--unit={unit}")


def cursor_of(node):
    return node.exec("journalctl", "--quiet", "--lines=1", "--show-cursor").rsplit("-- cursor: ", 1)[1].strip()


def begin(node, unit, drop_in):
    """Starts the unit with the drop-in; returns what systemctl said."""
    folder = f"/etc/systemd/system/{unit}.d"
    node.exec("sh", "-c", f"systemctl stop {unit}; systemctl reset-failed; rm -rf {folder}; mkdir -p {folder}; "
                          "rm -f /usr/needs-root /run/needs-root")
    if drop_in:
        node.write(f"{folder}/override.conf", f"[Service]\n{drop_in}")
    node.exec("systemctl", "daemon-reload")
    return node.try_exec("systemctl", "start", unit, timeout=60)


def outcome(node, unit, cursor, started):
    """Returns the cell: "held", or the error that says why not. Any other text describes a fault."""
    if started.status == 0:
        users = node.gpus.users()
        if users == [0, 0]:
            node.try_exec("holdfast", "set", "on")  # with --no-persistence-mode the daemon waits for this
            users = node.gpus.users()
        state = show(node, unit, "ActiveState")
        return "held" if (users, state) == ([1, 1], "active") else f"started, {state}, {users}"
    always = show(node, unit, "Restart") in ("always", "on-failure") and not show(node, unit, "RestartPreventExitStatus")
    if always:  # the unit of another vendor restarts until systemd gives up
        wait_until(lambda: show(node, unit, "ActiveState") == "failed", "systemd to give up", 20)
    words = words_since(node, unit, cursor)
    state, restarts = show(node, unit, "ActiveState"), show(node, unit, "NRestarts")
    if state != "failed" or (restarts != "0" and not always):
        return f"{state}, {restarts} restarts: {words}"
    for cell, sentence in SENTENCES.items():
        if re.search(sentence, words):
            quoted = node.try_exec("holdfast", "doctor").out
            return cell if re.search(sentence, re.sub(r"\s+", " ", quoted)) else f"{cell}, but not in doctor: {quoted}"
    return f"failed, and nothing says why: {words}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("unit", TRIED)
def test_with_each_drop_in_gpus_are_held_or_the_error_names_the_line_to_change(clean, debian, unit):
    node, expected = clean, table()
    name = place(node, unit)
    found = {}
    for row, drop_in in DROP_INS.items():
        cursor = cursor_of(node)
        found[row] = outcome(node, name, cursor, begin(node, name, drop_in))
        if row == "commands that need root" and found[row] == "held":
            node.exec("test", "-e", "/usr/needs-root", "-a", "-e", "/run/needs-root")
        print(f"{unit}: {row}: {found[row]}")
    assert set(expected) == set(DROP_INS)
    assert found == {row: cells[unit] for row, cells in expected.items()}
