# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Fixtures of the lab (README.md): one lab for all tests, and new nodes for each test.

    HOLDFAST_BUILD=DIR   the build that nodes get (default: build-lab/, made by `make lab`)
    CI=true              a skipped test is a failure
"""

import os
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "system"))

from harness import process, skips  # found by the line above
from lab import archive, base, cache, rpms as lab_rpms
from lab.clock import add, report, spent, timed
from lab.lab import BUILD, Lab
from vm import image, kernel, seed
from vm.machine import Machine

# The releases for tests with the mark each_debian. This machine's own comes first.
DEBIANS = ("bookworm", "trixie")
TOOLS = ("ip", "mmdebstrap", "nsenter", "ssh", "ssh-keygen", "systemd-nspawn", "unshare")
VM_TOOLS = ("apt-get", "busybox", "cpio", "depmod", "dpkg-deb", "gcc", "make", "mke2fs", "modprobe", "qemu-system-x86_64")

SHARED = pytest.StashKey()  # what all workers share. This process removes it at its end


def missing():
    """Returns what this machine lacks for a lab, as a text, or None."""
    lacking = [tool for tool in TOOLS if not shutil.which(tool)]
    if os.geteuid() != 0:
        return "root is missing: nodes are containers with their own mounts and devices"
    if not os.path.exists("/dev/fuse"):
        return "/dev/fuse is missing: simulated GPUs are a FUSE file system"
    return f"{', '.join(lacking)} missing (scripts/setup lab installs it)" if lacking else None


def pytest_configure(config):
    config.addinivalue_line("markers", "each_debian(ci=True): runs on nodes of each of DEBIANS. With ci=False, CI runs "
                                       "it only on this machine's own release, to save time")
    skips.forbid(config)
    process.adopt_orphans()
    # nohup ignores SIGHUP. All our child processes, even the nodes' process 1, would inherit that.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):  # for this process and the workers that it starts (scripts/lab)
        config.stash[SHARED] = ExitStack()
        os.environ.setdefault("HOLDFAST_DEBS", str(config.stash[SHARED].enter_context(cache.scratch("packages"))))


def pytest_unconfigure(config):
    if SHARED in config.stash:
        config.stash[SHARED].close()


def pytest_collection_modifyitems(items):
    """The tests of a group run in one worker (xdist_group). Groups take longest, so they come first."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


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


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["spent"] = spent


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """A worker has ended: adds its times to ours."""
    add(getattr(node, "workeroutput", {}).get("spent", {}))


def pytest_terminal_summary(terminalreporter):
    if spent:
        terminalreporter.section("what the time went to")
        for line in report():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def lab():
    """The lab. lab.node() and lab.boot(3) make nodes that exist until the end of the run, or until their remove()."""
    lacking = missing()
    if lacking:
        pytest.skip(lacking)
    if not (BUILD / "sim/holdfast-sim").exists():
        pytest.fail(f"nothing is built in {BUILD}; run `make lab`, or set HOLDFAST_BUILD")
    lab = Lab()
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def debian(request):
    """The nodes' release of Debian: this machine's, or with the mark each_debian one after the other."""
    return getattr(request, "param", archive.OWN)


@pytest.fixture
def bare_node(lab, debian):
    """A booted node without Holdfast."""
    node = lab.node(debian=debian).boot()
    yield node
    node.remove()


@pytest.fixture
def node(bare_node):
    """A booted node with simulated GPUs (two, quick) and Holdfast installed, not enabled."""
    return bare_node.simulate().install()


@pytest.fixture(scope="session")
def packages(lab, debian):
    """The Debian packages, built once on the nodes' release."""
    return lab.release(debian).packages


@pytest.fixture(scope="session")
def rpms(lab, tmp_path_factory):
    """The RPM packages, built once: ours and the stand-ins."""
    return lab_rpms.Rpms(lab, tmp_path_factory.mktemp("rpms"))


def missing_for_vm():
    """Returns what this machine lacks for the virtual machine, as a text, or None."""
    lacking = [tool for tool in VM_TOOLS if not shutil.which(tool)]
    if lacking:
        return f"{', '.join(lacking)} missing (scripts/setup lab installs it)"
    return None if kernel.release() else f"apt has no package {kernel.PACKAGE}; Debian has it for amd64. Run apt-get update."


@pytest.fixture(scope="session")
def vm(lab):
    """The virtual machine, booted, with Holdfast installed but not enabled. All tests share it. At the end its kernel must
    have reported no fault."""
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
