# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What nvidia-smi prints when something is wrong, with our daemon and with NVIDIA's: the table in docs/compatibility.md."""

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
    """Returns exit status and output of a Set that failed."""
    return UNKNOWN_ERROR, [f"Unable to set persistence mode for GPU 0000{node.gpus[gpu].upper()}: Unknown Error",
                           "Terminating early due to previous errors."]


def leave_socket(node):
    """Leaves a socket on which nobody listens."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(node.root / "run/nvidia-persistenced/socket"))
    left.close()


def begin(node, which):
    """Starts a daemon; returns its process id."""
    if which == "ours":
        return node.world.start().pid
    node.start_peer()
    return node.peer


@pytest.mark.gpus(1)
def test_with_a_stale_socket_a_set_on_fails(node):
    node.run("mkdir", "-p", "/run/nvidia-persistenced")
    leave_socket(node)
    assert node.smi(*QUERY) == (0, ["Disabled"])
    assert node.smi("-pm", "1") == refused(node)
    assert node.smi("-pm", "0")[0] == 0


@pytest.mark.gpus(1)
def test_with_a_stale_socket_and_the_legacy_flag_a_set_off_fails(node):
    node.smi("-pm", "1")
    leave_socket(node)
    assert node.smi(*QUERY) == (0, ["Enabled"])
    assert node.smi("-pm", "0") == refused(node)


@pytest.mark.gpus(1)
@DAEMONS
def test_after_a_kill_of_the_daemon_the_mode_is_disabled_and_a_set_fails(node, which):
    """Both daemons leave their socket behind; ours until its keeper stops waiting for the next daemon."""
    if which == "ours":
        node.world.start().kill()
    else:
        node.start_peer()
        os.kill(node.peer, signal.SIGKILL)
        assert process.wait_gone(node.peer, 20)
    # Our keeper holds the GPU.
    node.wait_holders([DAEMON] if which == "ours" else [])
    assert node.smi(*QUERY) == (0, ["Disabled"])
    assert node.smi("-pm", "1") == refused(node)
    if which == "ours":
        node.world.start()
        assert node.smi(*QUERY) == (0, ["Enabled"])


@pytest.mark.gpus(1)
@pytest.mark.timeout(300)
@DAEMONS
def test_a_query_waits_50_seconds_for_a_stopped_daemon(node, which):
    """50 s is NVML's limit; our own limits are shorter (docs/architecture.md). Afterwards nvidia-smi continues as without a
daemon. When NVIDIA's daemon continues, it dies of the reply to a client that has gone, and every GPU is torn down."""
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
def test_during_a_lease_the_mode_is_disabled_and_a_set_fails(node):
    daemon = node.world.start()
    with holdfast_rpc.Connection(daemon.socket_path, 10) as connection:
        connection.release()
        assert node.smi(*QUERY) == (0, ["Disabled"])
        status, lines = node.smi("-pm", "1")
        assert (status, lines) == refused(node)
    wait_until(lambda: node.modes() == ["Enabled"], "held again", 20)


def test_with_a_driver_of_another_version_only_our_daemon_works(world, stock):
    node = Node(world, stock, 1, version="470.256.02")
    status, lines = node.smi(*QUERY)
    assert status == MISMATCH and lines[0] == "Failed to initialize NVML: Driver/library version mismatch"
    assert node.run(node.stock.daemon).returncode == FAILED
    world.start()
    assert node.holdfast("check").status == 0, "ours requires no library of NVIDIA's, and holds the GPU"


def test_without_a_driver_nvidia_smi_says_so(world, stock):
    """Runs without a simulator, on this machine."""
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has a driver")
    done = subprocess.run([stock.smi, *QUERY], env=os.environ | stock.environment, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == NO_DRIVER and "couldn't communicate with the NVIDIA driver" in done.stdout
