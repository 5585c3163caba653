# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Writes the figures as a table for the terminal, as JSON, and as the tables of docs/performance.md."""

import json

from figure import OURS, PEER
from marked_page import put, table

VERSION = 1


def number(value):
    """Formats three digits, more than the accuracy of a single run."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def times(ratio):
    return "-" if ratio is None else f"{ratio:.2f} x"


def verdict(figure):
    return {None: "", True: "met", False: "MISSED"}[figure.is_met]


def columns(names):
    return ["figure", "unit", "limit", *names, f"{OURS} / limit", "goal", "",
            *([f"{PEER} / {OURS}"] if PEER in names else [])]


def row(figure, names):
    return [figure.name, figure.unit, number(figure.limit), *(number(figure.values.get(name)) for name in names),
            times(figure.ratio(OURS)), figure.goal_text(), verdict(figure),
            *([times(figure.against_peer())] if PEER in names else [])]


def groups(figures):
    """Returns {group: its figures}, in the order of measurement."""
    found = {}
    for figure in figures:
        found.setdefault(figure.group, []).append(figure)
    return found


def limits(figures):
    return ", ".join(sorted({figure.limit_is for figure in figures if figure.limit_is}))


def as_text(figures, names):
    rows = [columns(names)]
    for name, members in groups(figures).items():
        head = f"{name} (limit: {limits(members)})" if limits(members) else name
        rows += [[], [head]] + [row(figure, names) for figure in members]
    widths = [max((len(line[at]) for line in rows if len(line) > 1), default=0) for at in range(len(rows[0]))]
    lines = []
    for line in rows:
        cells = [cell.ljust(width) if at == 0 else cell.rjust(width)
                 for at, (cell, width) in enumerate(zip(line, widths))]
        lines.append("  ".join(cells).rstrip() if len(line) > 1 else "".join(line))
    return "\n".join(lines) + "\n"


def as_json(figures, about):
    document = {"version": VERSION, "about": about, "figures": [figure.as_json() for figure in figures]}
    return json.dumps(document, indent=2) + "\n"


def fill_page(path, figures, names, about):
    """Replaces each measured group in the page. Other groups stay unchanged."""
    page = path.read_text()
    for name, members in groups(figures).items():
        limit = f"Limit: {limits(members)}.\n" if limits(members) else ""
        page = put(page, name, table(columns(names), [row(figure, names) for figure in members]) + "\n" + limit)
    path.write_text(put(page, "about", "".join(f"- {key}: {value}\n" for key, value in about.items())))
