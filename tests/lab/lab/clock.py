# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The table of times of a run."""

import contextlib
import time

spent = {}  # {activity: [how often, seconds]}


@contextlib.contextmanager
def timed(what):
    start = time.monotonic()
    try:
        yield
    finally:
        add({what: (1, time.monotonic() - start)})


def add(others):
    """Adds times, perhaps those of another process."""
    for what, (times, seconds) in others.items():
        entry = spent.setdefault(what, [0, 0.0])
        entry[0] += times
        entry[1] += seconds


def report():
    """Yields a line for each activity, the longest first."""
    for what, (times, seconds) in sorted(spent.items(), key=lambda item: -item[1][1]):
        yield f"{seconds:7.1f} s  {what}" + (f" ({times} times)" if times > 1 else "")
