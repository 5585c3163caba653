# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The soak test uses the harness of the system tests.

    HOLDFAST_BUILD=DIR         the build under test (default: build/)
    HOLDFAST_SOAK_MINUTES=N    the duration for each seed (default: 1)
    HOLDFAST_SOAK_SEED=N       the only seed (default: a fixed seed and a random one)
    CI=true                    a skipped test is a failure
"""

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "system"))

from harness import process, skips  # noqa: E402
from harness.command import BUILD  # noqa: E402
from harness.fixtures import open_world  # noqa: E402

FIXED_SEED = 35006
SEED = os.environ.get("HOLDFAST_SOAK_SEED")
SEEDS = [int(SEED)] if SEED else [FIXED_SEED, random.SystemRandom().randrange(10**6)]


def pytest_configure(config):
    skips.forbid(config)
    process.adopt_orphans()


def pytest_report_header():
    return [f"build: {BUILD}", f"seeds: {', '.join(map(str, SEEDS))}"]


@pytest.fixture(params=SEEDS)
def seed(request):
    return request.param


@pytest.fixture
def minutes():
    return float(os.environ.get("HOLDFAST_SOAK_MINUTES") or 1)


@pytest.fixture
def world():
    """A simulated driver and a daemon with the kernel backend."""
    with open_world(BUILD) as world:
        yield world
