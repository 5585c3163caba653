# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Writes the fleet as CSV: a row for each GPU, and a row for each node without any."""

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
    """The apostrophe prevents that a spreadsheet evaluates the text as a formula."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return f"'{value}"
    return "" if value is None else value


def about(node, gpu, findings):
    """The values of NODE_COLUMNS, from the findings about the node as a whole and about this GPU."""
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
