# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The fleet as CSV: a row for each GPU, and one for each node that has none to tell of."""

import csv
import io

from .verdict import verdict_of

NODE_COLUMNS = (
    "node",
    "verdict",
    "findings",
    "daemon",
    "daemon_version",
    "driver_version",
)

GPU_COLUMNS = (
    "index",
    "bus_id",
    "uuid",
    "name",
    "persistence_mode",
    "state",
    "held",
    "wanted",
    "configured",
    "since",
    "open_ms",
    "opens",
    "failures",
    "error",
)


def cell(value):
    """A spreadsheet takes a text that begins so for a formula, and would run it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return f"'{value}"
    return "" if value is None else value


def about(node, gpu, findings):
    """NODE_COLUMNS. Of the findings those of the node and of this GPU, and the verdict on them."""
    mine = [finding for finding in findings if finding.gpu in (None, gpu and gpu.index)]
    return [node.name, verdict_of(mine), "; ".join(finding.text for finding in mine), node.daemon, node.daemon_version,
            node.driver_version]


def write(rows):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*NODE_COLUMNS, *GPU_COLUMNS])
    for node, findings in rows:
        for gpu in node.gpus or [None]:
            row = about(node, gpu, findings) + [getattr(gpu, name, None) for name in GPU_COLUMNS]
            writer.writerow([cell(value) for value in row])
    return text.getvalue()
