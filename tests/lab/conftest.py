# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Fixtures of the lab (README.md): the lab, once; nodes, new for each test.

    HOLDFAST_BUILD=DIR   the build that nodes get (default: build-lab/, which `make lab` makes)
    CI=true              a skipped test is a failure
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "system"))

from harness import process, skips  # found by the line above
from lab import archive, base
from lab.clock import report, spent, timed
from lab.lab import BUILD, Lab
from vm import image, kernel, seed
from vm.machine import Machine

# What the tests of modules with the mark each_debian run on, this machine's own first.
DEBIANS = ("bookworm", "trixie")
TOOLS = ("ip", "mmdebstrap", "nsenter", "ssh", "ssh-keygen", "systemd-nspawn", "unshare")
VM_TOOLS = ("apt-get", "busybox", "cpio", "depmod", "dpkg-deb", "gcc", "make", "mke2fs", "modprobe", "qemu-system-x86_64")


def missing():
    """What this machine lacks for a lab, or None."""
    lacking = [tool for tool in TOOLS if not shutil.which(tool)]
    if os.geteuid() != 0:
        return "root is missing: nodes are containers with mounts and devices of their own"
    if not os.path.exists("/dev/fuse"):
        return "/dev/fuse is missing: simulated GPUs are a FUSE file system"
    return f"{', '.join(lacking)} missing (scripts/setup lab installs it)" if lacking else None


def pytest_configure(config):
    config.addinivalue_line("markers", "each_debian(ci=True): runs on nodes of each of DEBIANS, with ci=False in CI "
                                       "only on those of this machine's own, since CI would take too long")
    skips.forbid(config)
    process.adopt_orphans()
    # Under nohup it is ignored, and whoever we start would inherit that: also the nodes' process 1.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_generate_tests(metafunc):
    mark = metafunc.definition.get_closest_marker("each_debian")
    if mark and "debian" in metafunc.fixturenames:
        names = sorted(DEBIANS, key=lambda name: name != archive.OWN) if archive.OWN in DEBIANS else [archive.OWN]
        if "CI" in os.environ and not mark.kwargs.get("ci", True):
            names = names[:1]
        metafunc.parametrize("debian", names, indirect=True, scope="session")


def pytest_report_header():
    return f"build: {BUILD}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    with timed(item.location[0]):
        yield


def pytest_terminal_summary(terminalreporter):
    if spent:
        terminalreporter.section("what the time went to")
        for line in report():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def lab():
    """Nodes' home. lab.node(), lab.boot(3): nodes that live to the end of the run, or to their remove()."""
    lacking = missing()
    if lacking:
        pytest.skip(lacking)
    if not (BUILD / "sim/holdfast-sim").exists():
        pytest.fail(f"nothing is built in {BUILD}; run `make lab`, or give HOLDFAST_BUILD")
    lab = Lab()
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def debian(request):
    """Which release nodes are: this machine's, and with the mark each_debian one after the other."""
    return getattr(request, "param", archive.OWN)


@pytest.fixture
def bare_node(lab, debian):
    """A booted node with nothing of ours on it."""
    node = lab.node(debian=debian).boot()
    yield node
    node.remove()


@pytest.fixture
def node(bare_node):
    """A booted node with simulated GPUs (two, quick) and Holdfast installed, not enabled."""
    return bare_node.simulate().install()


@pytest.fixture(scope="session")
def packages(lab, debian):
    """The Debian packages, built once, on the release that nodes are."""
    return lab.release(debian).packages


def missing_for_vm():
    """What this machine lacks for the virtual machine besides, or None."""
    lacking = [tool for tool in VM_TOOLS if not shutil.which(tool)]
    if lacking:
        return f"{', '.join(lacking)} missing (scripts/setup lab installs it)"
    return None if kernel.release() else f"apt knows no {kernel.PACKAGE}, which Debian has for amd64 (apt-get update?)"


@pytest.fixture(scope="session")
def vm(lab):
    """The virtual machine, booted, with Holdfast installed, not enabled; one for all. In the end its kernel has had no
    fault."""
    lacking = missing_for_vm()
    if lacking:
        pytest.skip(lacking)
    version = kernel.release()
    with base.used() as root, image.used(root, version) as made, kernel.modules(version, seed.DRIVERS) as modules:
        machine = Machine(lab, made, seed.make(lab, modules))
        try:
            yield machine.boot()
            assert not machine.kernel_faults()
        finally:
            machine.switch_off()
