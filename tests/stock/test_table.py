# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What nvidia-smi prints where something is wrong, with our daemon and with NVIDIA's: docs/compatibility.md has the table."""

import os
import signal
import socket
import subprocess

import pytest

from harness import holdfast_rpc, process
from harness.events import wait_until
from node import DAEMON, Node

FAILED, NO_DRIVER, MISMATCH, UNKNOWN_ERROR = 1, 9, 18, 255
QUERY = ("--query-gpu=persistence_mode", "--format=csv,noheader")
DAEMONS = pytest.mark.parametrize("which", ["ours", "theirs"])


def refused(node, gpu=0):
    """What it prints of a Set that failed."""
    return UNKNOWN_ERROR, [f"Unable to set persistence mode for GPU 0000{node.gpus[gpu].upper()}: Unknown Error",
                           "Terminating early due to previous errors."]


def leave_socket(node):
    """One at which nobody listens."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(node.root / "run/nvidia-persistenced/socket"))
    left.close()


def begin(node, which):
    """Returns its process' id."""
    if which == "ours":
        return node.world.start().pid
    node.start_peer()
    return node.peer


@pytest.mark.gpus(1)
def test_a_socket_at_which_nobody_listens(node):
    node.run("mkdir", "-p", "/run/nvidia-persistenced")
    leave_socket(node)
    assert node.smi(*QUERY) == (0, ["Disabled"])
    assert node.smi("-pm", "1") == refused(node)
    assert node.smi("-pm", "0")[0] == 0


@pytest.mark.gpus(1)
def test_a_socket_at_which_nobody_listens_and_the_flag(node):
    node.smi("-pm", "1")
    leave_socket(node)
    assert node.smi(*QUERY) == (0, ["Enabled"])
    assert node.smi("-pm", "0") == refused(node)


@pytest.mark.gpus(1)
@DAEMONS
def test_a_daemon_that_was_killed(node, which):
    """Either leaves its socket; ours for as long as its keeper waits for the next daemon."""
    if which == "ours":
        node.world.start().kill()
    else:
        node.start_peer()
        os.kill(node.peer, signal.SIGKILL)
        assert process.wait_gone(node.peer, 20)
    # Ours is kept initialised by the keeper meanwhile.
    node.wait_holders([DAEMON] if which == "ours" else [])
    assert node.smi(*QUERY) == (0, ["Disabled"])
    assert node.smi("-pm", "1") == refused(node)
    if which == "ours":
        node.world.start()
        assert node.smi(*QUERY) == (0, ["Enabled"])


@pytest.mark.gpus(1)
@pytest.mark.timeout(300)
@DAEMONS
def test_a_daemon_that_stands_still_is_waited_for_50_seconds(node, which):
    """As long as NVML waits: our own limits are below (docs/architecture.md). Then it goes on as if there were none. A client
    that has given up ends NVIDIA's daemon as soon as that goes on, and with it every GPU's initialisation."""
    pid = begin(node, which)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert node.smi(*QUERY, timeout=120) == (0, ["Disabled"])
    finally:
        os.kill(pid, signal.SIGCONT)
    if which == "ours":
        assert node.smi(*QUERY) == (0, ["Enabled"])
    else:
        assert process.wait_gone(pid, 20)
        node.wait_holders([])


@pytest.mark.gpus(1)
def test_a_set_that_our_daemon_refuses_for_a_lease(node):
    daemon = node.world.start()
    with holdfast_rpc.Connection(daemon.socket_path, 10) as connection:
        connection.release()
        assert node.smi(*QUERY) == (0, ["Disabled"])
        status, lines = node.smi("-pm", "1")
        assert (status, lines) == refused(node)
    wait_until(lambda: node.modes() == ["Enabled"], "held again", 20)


def test_a_driver_of_another_version(world, stock):
    node = Node(world, stock, 1, version="470.256.02")
    status, lines = node.smi(*QUERY)
    assert status == MISMATCH and lines[0] == "Failed to initialize NVML: Driver/library version mismatch"
    assert node.run(node.stock.daemon).returncode == FAILED
    world.start()
    assert node.holdfast("check").status == 0, "ours needs no library, and holds it"


def test_no_driver(world, stock):
    """Without a simulator, on this machine."""
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has a driver")
    done = subprocess.run([stock.smi, *QUERY], env=os.environ | stock.environment, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == NO_DRIVER and "couldn't communicate with the NVIDIA driver" in done.stdout
