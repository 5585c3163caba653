# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Reads the answers of nodes, from files or a stream, into Nodes.

An answer may contain anything, and one bad answer must not prevent the report on two thousand nodes: an error in an
answer becomes that node's fault, a sentence. Unprintable characters are replaced, and long texts are truncated.
"""

import json
import math

from .model import STATES, Gpu, Node

SCHEMA = "holdfast.status/1"
ANSWER_SIZE_MAX = 4 * 1024 * 1024  # ten times what 256 GPUs with many clients need
TEXT_LENGTH_MAX = 500
GPUS_MAX = 256
PROBLEMS_MAX = 1000


class Unusable(Exception):
    """Why an answer cannot be used."""


def printable(text):
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:TEXT_LENGTH_MAX])


# ---- members, with their types -----------------------------------------------


class Object:
    """A JSON object. Error messages about its members say where in the answer it is."""

    def __init__(self, value, where):
        if not isinstance(value, dict):
            raise Unusable(f"{where} is not an object")
        self._value = value
        self._where = where

    def __contains__(self, name):
        return name in self._value

    def _get(self, name, what, fits):
        if name not in self._value:
            raise Unusable(f"'{name}' is missing in {self._where}")
        value = self._value[name]
        if not fits(value):
            raise Unusable(f"'{name}' in {self._where} is not {what}")
        return value

    def text(self, name):
        value = self._get(name, "a text or null", lambda v: v is None or isinstance(v, str))
        return None if value is None else printable(value)

    def choice(self, name, choices):
        value = self.text(name)
        return value if value in choices else "unknown"

    def flag(self, name):
        return self._get(name, "true, false or null", lambda v: v is None or isinstance(v, bool))

    def number(self, name):
        return self._get(name, "a number or null", lambda v: v is None or is_number(v))

    def count(self, name):
        return self._get(name, "a count or null", lambda v: v is None or (is_number(v) and isinstance(v, int)))

    def object(self, name):
        return Object(self._get(name, "an object", lambda v: isinstance(v, dict)), f"{self._where}.{name}")

    def object_or_none(self, name):
        value = self._get(name, "an object or null", lambda v: v is None or isinstance(v, dict))
        return None if value is None else Object(value, f"{self._where}.{name}")

    def texts(self, name, limit):
        value = self._get(name, f"a list of at most {limit} texts",
                          lambda v: isinstance(v, list) and len(v) <= limit and all(isinstance(item, str) for item in v))
        return [printable(item) for item in value]

    def objects(self, name, limit):
        value = self._get(name, f"a list of at most {limit}", lambda v: isinstance(v, list) and len(v) <= limit)
        return [Object(item, f"{self._where}.{name}[{i}]") for i, item in enumerate(value)]


def is_number(value):
    """True for numbers that JavaScript and a spreadsheet represent exactly. JSON has no such limit."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53


def parse(text):
    def refuse(constant):
        raise ValueError(f"{constant} is not a number")

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite, parse_int=short)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"it is not JSON: {printable(str(error))}") from None


def finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def short(text):
    """Limits the length: Python would need minutes for millions of digits."""
    if len(text) > 20:
        raise ValueError(f"{text[:20]}... is too large")
    return int(text)


# ---- an answer ---------------------------------------------------------------


def read_gpu(gpu):
    found = Gpu(
        index=gpu.count("index") or 0,
        bus_id=gpu.text("bus_id") or "",
        uuid=gpu.text("uuid"),
        name=gpu.text("name"),
        persistence_mode=gpu.choice("persistence_mode", ("on", "off")),
        state=gpu.choice("state", STATES),
        held=gpu.flag("held"),
        clients=[f"{client.text('name') or '?'} ({client.count('pid')})" for client in gpu.objects("clients", 10000)],
    )
    detail = gpu.object_or_none("detail")
    if detail:
        error = detail.object_or_none("error")
        found.wanted = detail.flag("wanted")
        found.configured = detail.flag("configured")
        found.since = detail.text("since")
        found.open_ms = detail.number("open_ms")
        found.opens = detail.count("opens")
        found.failures = detail.count("failures")
        found.error = error.text("text") if error else None
        found.uvm = detail.text("uvm")
        found.uvm_reason = detail.text("uvm_reason")
    settings = gpu.object_or_none("settings") if "settings" in gpu else None  # version 0.1 does not have this key
    if settings:
        found.settings = settings.texts("problems", PROBLEMS_MAX)
    return found


def read_status(name, value):
    status = Object(value, "the answer")
    schema = status.text("schema")
    if schema != SCHEMA:
        raise Unusable(f"its schema is '{schema}', but this report reads {SCHEMA}: use the report of the node's Holdfast version")
    daemon, driver = status.object("daemon"), status.object("driver")
    return Node(
        name=name,
        daemon=daemon.text("kind") or "unknown",
        daemon_version=daemon.text("version"),
        daemon_backend=daemon.text("backend"),
        daemon_pid=daemon.count("pid"),
        daemon_started=daemon.text("started"),
        daemon_ready=daemon.flag("ready"),
        daemon_error=daemon.text("error"),
        driver_loaded=driver.flag("loaded"),
        driver_version=driver.text("version"),
        gpus=[read_gpu(gpu) for gpu in status.objects("gpus", GPUS_MAX)],
    )


def read_answer(name, value, named):
    """value is a status, or {"node": NAME, "status": ...}, or {"node": NAME, "error": TEXT}. named: `name` was taken from the
    answer's file name, and an answer that has another name is an error, so no node can replace another's answer."""
    if isinstance(value, dict) and "node" in value:
        envelope = Object(value, "the line")
        inside = envelope.text("node") or name
        if named and inside != name:
            return Node(name, fault=f"its answer belongs to another node: {inside}")
        name = inside
        if "error" in value:
            return Node(name, fault=envelope.text("error") or "no answer")
        value = value.get("status")
    try:
        return read_status(name, value)
    except Unusable as reason:
        return Node(name, fault=f"its answer cannot be used: {reason}")


def read_text(name, text, named=False):
    if len(text) > ANSWER_SIZE_MAX:
        return Node(name, fault=f"its answer is larger than {ANSWER_SIZE_MAX >> 20} MiB")
    if not text.strip():
        return Node(name, fault="its answer is empty")
    try:
        return read_answer(name, parse(text), named)
    except Unusable as reason:
        return Node(name, fault=f"its answer cannot be used: {reason}")


# ---- where answers come from -------------------------------------------------


def read_file(path):
    """Reads NODE.json. The time at which the file was last changed counts as the time of the answer."""
    name = printable(path.name[:-len(".json")] if path.name.endswith(".json") else path.name)
    with open(path, encoding="utf-8", errors="replace") as file:
        node = read_text(name, file.read(ANSWER_SIZE_MAX + 1), named=True)
    node.answered = path.stat().st_mtime
    return node


def read_folder(path):
    return [read_file(file) for file in sorted(path.iterdir()) if file.name.endswith(".json") and file.is_file()]


def lines_of(stream):
    """Yields the lines. A line that is too long is truncated just above the limit, so the caller notices."""
    while line := stream.readline(ANSWER_SIZE_MAX + 1):
        rest = line
        while len(line) > ANSWER_SIZE_MAX and rest and not rest.endswith("\n"):
            rest = stream.readline(ANSWER_SIZE_MAX)
        yield line


def read_stream(stream):
    """Reads one line for each node. A line that is not JSON has no node name, so it is named by its number."""
    return [read_text(f"line {number}", line) for number, line in enumerate(lines_of(stream), 1) if line.strip()]


def read_lines(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return read_stream(file)


def read_names(path):
    """Reads the names of the nodes that should answer, one on a line; # starts a comment."""
    with open(path, encoding="utf-8", errors="replace") as file:
        names = [line.split("#")[0].strip() for line in file]
    return [printable(name) for name in names if name]


def complete(nodes, expected, now, age_max):
    """Returns each node once; its last answer counts. A missing or old answer becomes the node's fault."""
    found = {name: Node(name, fault="no answer") for name in expected}
    for node in nodes:
        if node.answered is not None and now - node.answered > age_max:
            hours = (now - node.answered) / 3600
            node = Node(node.name, fault=f"no answer for {hours:.1f} hours", answered=node.answered)
        found[node.name] = node
    return list(found.values())
