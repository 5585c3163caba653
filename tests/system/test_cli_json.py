# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The output of every command with --json, on nodes made of files.

On each node it must fit its schema. On the node with the most details it must also equal the file in tests/system/golden,
since scripts read it: no key and no spelling may change unnoticed. After an intended change, HOLDFAST_GOLDEN=renew rewrites
the files; review the difference, and decide whether the schema's version must change.
"""

import json
import os
import re
from pathlib import Path

import pytest

from harness.command import commands, holdfast, opened
from harness.node import FAILED, RELEASED, THREE, YES, Row

A, B, C = THREE
GOLDEN = Path(__file__).parent / "golden"

COMMANDS = {
    "check": ["check", "--json"],
    "clients": ["clients", "--json"],
    "doctor": ["doctor", "--json"],
    "metrics": ["metrics", "--json"],
    "query": ["query", "--fields=index,name,uuid,pci.bus_id,persistence_mode,holdfast.state,holdfast.since,"
                       "holdfast.open_ms,holdfast.error,holdfast.legacy_flag,holdfast.held_by", "--json"],
    "release": ["release", "--dry-run", "--force", "--json", "--", "nvidia-smi", "--gpu-reset"],
    "set": ["set", "off", "--gpu=1", "--json"],
    "settings": ["settings", "--json"],
    "status": ["status", "--json"],
    "takeover": ["takeover", "--status", "--json"],
    "wait": ["wait", "--timeout=0", "--json"],
}


def all_held(node):
    node.start_daemon(rows=[Row(A, minor=0), Row(B, minor=1), Row(C, minor=2)])


def one_failed(node):
    node.start_daemon(rows=[
        Row(A, minor=0, uvm=2), Row(C, RELEASED, minor=2, wanted=0, legacy=YES),
        Row(B, FAILED, minor=1, opens=0, failures=3, errno=5, nv_status=28, open_duration=0,
            error="cannot open /dev/nvidia1: Input/output error")], set_status=3)


def no_daemon(node):
    node.add_gpu(B, 1, excluded=True)


def nvidias_daemon(node):
    node.start_daemon(modes={A[:10]: (0, 1), B[:10]: (0, 0)})


NODES = {"held": all_held, "failed": one_failed, "no-daemon": no_daemon, "nvidia": nvidias_daemon}

# The keys whose values vary from run to run, and the values that replace them.
VARIES = {"container": None, "duration_ms": 0.0, "elapsed_ms": 0.0}


def settled(value, words):
    """The document with constants in place of what varies. words: {pattern of a varying text: its replacement}."""
    if isinstance(value, dict):
        return {key: VARIES[key] if key in VARIES else settled(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [settled(item, words) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    text = str(value)
    for pattern, constant in words.items():
        text = re.sub(pattern, constant, text)
    return type(value)(text)


def record_of(node, name):
    """Everything that scripts may rely on: both outputs and the exit status."""
    result = holdfast(node.root, *COMMANDS[name])
    document = result.json(name) if result.out else None
    return {"arguments": COMMANDS[name], "exit_status": result.status, "stderr": result.err, "document": document}


@pytest.mark.parametrize("where", [where for where in NODES if where != "failed"])
@pytest.mark.parametrize("name", COMMANDS)
def test_json_fits_its_schema(three, name, where):
    NODES[where](three)
    with opened(three, 0):
        printed = record_of(three, name)["document"] is not None
    assert printed == ((name, where) != ("set", "no-daemon")), "only `holdfast set` without a daemon prints no document"


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_the_same_as_the_golden_file(three, name):
    if os.geteuid() != 0:
        pytest.skip("root is missing: other users get less information")
    one_failed(three)
    with opened(three, 0) as job:
        record = record_of(three, name)
    version = holdfast(None, "--version").out.split()[1]
    record = settled(record, {
        re.escape(str(three.root)): "/node", rf"\b{job.pid}\b": "8123", rf"\b{os.getpid()}\b": "4711",
        re.escape(os.uname().release): "KERNEL", rf"^{re.escape(version)}$": "VERSION",
        r"^(?!2027-01-15)20\d\d-\d\d-\d\dT[\d:.]+Z$": "2026-11-23T08:00:00.000Z",
        r"^(?!1799999999|1800000000)1[789]\d{8}\.\d+$": "1795420800.5",  # all but the scripted daemon's times
    })
    file = GOLDEN / f"{name}.json"
    if os.environ.get("HOLDFAST_GOLDEN") == "renew":
        file.write_text(json.dumps(record, indent=2) + "\n")
    assert record == json.loads(file.read_text())


def test_every_command_with_json_has_a_golden_file():
    with_json = {name for name in commands() if "--json" in holdfast(None, name, "--help").out}
    assert set(COMMANDS) == with_json - {"bench"}  # bench prints measured times, which differ in each run
    assert {file.stem for file in GOLDEN.iterdir()} == set(COMMANDS)
