# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Code for the fixtures of several suites. It is not in world.py, because that is also used where pytest is not installed."""

import contextlib

import pytest

from .world import World, missing_for


@contextlib.contextmanager
def open_world(build, backend="kernel"):
    """A world for a fixture. Skips the test if the machine lacks what the backend needs."""
    lacking = missing_for(backend)
    if lacking:
        pytest.skip(lacking)
    world = World(build, backend)
    try:
        yield world
    finally:
        world.clean_up()
