# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What fixtures of several suites are made of. Apart from world.py, which also serves where pytest is not installed."""

import contextlib

import pytest

from .world import World, missing_for


@contextlib.contextmanager
def open_world(build, backend="kernel"):
    """A world for a fixture. The test is skipped where the machine lacks what the backend needs."""
    lacking = missing_for(backend)
    if lacking:
        pytest.skip(lacking)
    world = World(build, backend)
    try:
        yield world
    finally:
        world.clean_up()
