# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Fixtures of the fleet's tests, which use the harness of the system tests.

    HOLDFAST_BUILD=DIR  the build under test (default: build/)
    CI=true             a skipped test is a failure
"""

import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tests/system"))

from harness import process, skips  # noqa: E402
from harness.command import BUILD  # noqa: E402
from harness.fixtures import open_world  # noqa: E402
from harness.node import Node  # noqa: E402


def pytest_configure(config):
    skips.forbid(config)
    process.adopt_orphans()


@pytest.fixture
def world():
    """A simulated driver and daemons with the kernel backend, as in the system tests."""
    with open_world(BUILD) as world:
        yield world


@pytest.fixture
def make_node():
    """Makes nodes that consist of files. Each can have a scripted daemon."""
    nodes = []

    def make():
        nodes.append(Node())
        return nodes[-1]

    yield make
    for node in nodes:
        node.clean_up()
