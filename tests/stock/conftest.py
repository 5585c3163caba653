# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""NVIDIA's own programs on the simulated driver (README.md).

    HOLDFAST_BUILD=DIR       the build under test (default: build/)
BRANCH=550               only this branch of the driver
CI=true                  a skipped test is a failure
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "tests/system"), str(TOP / "tests/lab"), str(Path(__file__).resolve().parent)]

import programs  # found by the line above, like the harness and the lab
from harness import process, skips
from harness.fixtures import open_world
from node import Node

BUILD = Path(os.environ.get("HOLDFAST_BUILD", TOP / "build")).resolve()
BRANCHES = [os.environ["BRANCH"]] if os.environ.get("BRANCH") else programs.STABLE


def pytest_configure(config):
    config.addinivalue_line("markers", "gpus(n): number of GPUs, instead of two")
    skips.forbid(config)
    process.adopt_orphans()


def pytest_generate_tests(metafunc):
    if "stock" in metafunc.fixturenames:
        metafunc.parametrize("stock", BRANCHES, indirect=True, scope="session")


@pytest.fixture(scope="session")
def stock(request):
    """NVIDIA's programs of a branch, in a folder that everybody may read."""
    with programs.used(request.param) as kept, tempfile.TemporaryDirectory(prefix="holdfast-stock-") as folder:
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        os.chmod(folder, 0o755)
        yield programs.Programs(request.param, Path(folder))


@pytest.fixture
def world():
    with open_world(BUILD) as world:
        yield world


@pytest.fixture
def node(world, stock, request):
    """A node with a driver of the programs' version and no daemon."""
    marker = request.node.get_closest_marker("gpus")
    node = Node(world, stock, marker.args[0] if marker else 2)
    yield node
    node.end_peer()


@pytest.fixture(params=["ours", "theirs"])
def daemon(request, node):
    """Starts a daemon, which holds every GPU, and says which one it is."""
    node.start(request.param)
    return request.param
