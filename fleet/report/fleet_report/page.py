# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Writes the fleet as one self-contained HTML file: page.html with page.css, page.js and the data in it.

The data is JSON in a script element that the browser does not run; page.js puts it into elements through textContent
only. The content security policy permits only page.js to run, by its hash.
"""

import base64
import hashlib
import html
import json
import re
from pathlib import Path

from .model import STATES
from .verdict import VERDICTS, verdict_of

HERE = Path(__file__).resolve().parent


class Table:
    """Replaces repeated texts by numbers, so each text is in the page once."""

    def __init__(self):
        self._numbers = {}

    def number(self, text):
        return None if text is None else self._numbers.setdefault(text, len(self._numbers))

    @property
    def texts(self):
        return list(self._numbers)


def gpu_row(gpu, models):
    """The order of the members is that of gpuOf() in page.js."""
    return [
        gpu.index, gpu.bus_id, gpu.uuid, models.number(gpu.name), STATES.index(gpu.state), gpu.since,
        None if gpu.open_ms is None else round(gpu.open_ms, 1), gpu.opens, gpu.failures, gpu.error, gpu.clients,
        gpu.persistence_mode,
    ]


def node_row(node, findings, models):
    return {
        "name": node.name,
        "verdict": verdict_of(findings),
        "findings": [[finding.verdict, finding.text] for finding in findings],
        "answered": node.answered,
        "daemon": {
            "kind": node.daemon, "version": node.daemon_version, "backend": node.daemon_backend, "pid": node.daemon_pid,
            "started": node.daemon_started,
        } if node.daemon else None,
        "driver": node.driver_version,
        "gpus": [gpu_row(gpu, models) for gpu in node.gpus],
    }


def data_of(rows, generated):
    models = Table()
    nodes = [node_row(node, findings, models) for node, findings in rows]
    data = {"generated": generated, "verdicts": VERDICTS, "states": STATES, "models": models.texts, "nodes": nodes}
    # "</script>" in a text would end the script element, so "<" is escaped.
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def digest(text):
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def write(rows, title, generated):
    style, script = (HERE / "page.css").read_text(encoding="utf-8"), (HERE / "page.js").read_text(encoding="utf-8")
    page = (HERE / "page.html").read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}"
    parts = {"title": html.escape(title), "policy": policy, "style": style, "script": script,
             "data": data_of(rows, generated)}
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], page)
