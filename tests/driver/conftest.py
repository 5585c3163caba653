# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""One suite, two drivers (README.md).

    HOLDFAST_DRIVER=nvidia   use NVIDIA's driver, which is loaded here; otherwise the simulator in each of its versions
    HOLDFAST_BUILD=DIR       the build whose simulator is used (default: build/)
    CI=true                  a skipped test is a failure
"""

import os
import sys
import tempfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "tests/system"), str(Path(__file__).resolve().parent)]

import differences  # found by the line above, as is the harness
from drivers import nvidia, simulated
from drivers.driver import COUNT, Times
from harness import process, skips
from service import Service

BUILD = Path(os.environ.get("HOLDFAST_BUILD", TOP / "build")).resolve()
REAL = os.environ.get("HOLDFAST_DRIVER") == "nvidia"
# They require a separate machine with systemd as process 1.
collect_ignore = [] if REAL else ["test_installed.py", "test_process_one.py"]
# The long-lived branches, in the versions that were last compared with NVIDIA's code.
SIMULATED_VERSIONS = ("535.261.03", "550.163.01")


def pytest_configure(config):
    config.addinivalue_line("markers", "times(lock=, init=, teardown=, gpu1={...}): milliseconds, and one GPU's own")
    skips.forbid(config)
    process.adopt_orphans()
    if REAL and not nvidia.is_loaded():
        raise pytest.UsageError(f"NVIDIA's driver is not loaded with fake GPUs ({nvidia.CONTROL})")


def pytest_report_header():
    return "driver: NVIDIA's" if REAL else f"driver: the simulator of {BUILD}"


def pytest_generate_tests(metafunc):
    if "driver_version" in metafunc.fixturenames:
        metafunc.parametrize("driver_version", ["nvidia"] if REAL else SIMULATED_VERSIONS, scope="function")


def pytest_collection_modifyitems(items):
    for item in items:
        version = getattr(item, "callspec", None) and item.callspec.params.get("driver_version")
        reason = version and differences.known(item.originalname, version)
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason))


def times_of(item):
    """Returns the times of each GPU from the test's marker."""
    marker = item.get_closest_marker("times")
    words = dict(marker.kwargs) if marker else {}
    own = [words.pop(f"gpu{index}", {}) for index in range(COUNT)]
    return [Times(**(words | mine)) for mine in own]


@pytest.fixture
def driver(driver_version, request):
    """A driver with four healthy, uninitialised GPUs."""
    times = times_of(request.node)
    with tempfile.TemporaryDirectory(prefix="holdfast-driver-") as folder:
        os.chmod(folder, 0o755)  # other users must reach the daemon's socket
        made = nvidia.Nvidia(times) if REAL else simulated.Simulated(BUILD, Path(folder), driver_version, times)
        made.folder = Path(folder)
        yield made
        made.clean_up()


@pytest.fixture
def service(driver):
    """The daemon and the command on this driver. The daemon is not started."""
    made = Service(driver, BUILD, driver.folder)
    yield made
    driver.end_hangs()
    made.clean_up()
