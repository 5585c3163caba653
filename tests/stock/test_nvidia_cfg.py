# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Our daemon with --backend=nvidia-cfg and NVIDIA's library: what it holds, and what follows from the library's opening only
one GPU at a time (docs/decisions/0015-nvidia-cfg-opens-one-at-a-time.md)."""

import json
import os
import subprocess

import pytest

from harness import rpc
from harness.events import wait_until
from node import DAEMON

STOP_LIMIT_SEC = 5


@pytest.fixture
def start(node):
    """A function that starts the daemon on the node and returns its process."""
    started = []

    def start():
        # As in SANITIZER_BEHIND_PRELOAD, but without leak detection, because NVIDIA's library leaks.
        environment = node.environment | {"ASAN_OPTIONS": f"{node.environment['ASAN_OPTIONS']}:detect_leaks=0"}
        command = node.command(node.world.build / "src/daemon/nvidia-persistenced", "--foreground", "--backend=nvidia-cfg",
                               f"--nvidia-cfg-path={node.stock.libraries}")
        child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
        started.append(child)
        return child
    yield start
    node.sim.ctl("hang", gpu="all", on=False)
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate(timeout=20)


def wait_held(node):
    assert node.holdfast("wait", "--timeout=60", timeout=70).status == 0


def states(node):
    return [gpu["state"] for gpu in json.loads(node.holdfast("status", "--json").out)["gpus"]]


def descriptors(node):
    """Returns for each GPU the names of the processes that have its node open, once for each descriptor."""
    return [[handle["comm"] for handle in node.sim.gpu(gpu)["handles"] if handle["node"] == "gpu"] for gpu in node.gpus]


def stop(child):
    child.terminate()
    said = child.communicate(timeout=20)[1]
    assert child.returncode == 0, said
    return said


def test_each_gpu_is_held_by_three_descriptors_until_it_is_switched_off(node, start):
    child = start()
    wait_held(node)
    assert descriptors(node) == [[DAEMON] * 3] * 2
    assert node.modes() == ["Enabled", "Enabled"]
    assert node.smi("-i", "0", "-pm", "0")[0] == 0
    wait_until(lambda: descriptors(node) == [[], [DAEMON] * 3], "GPU 0 released", 20)
    assert node.smi("-i", "0", "-pm", "1")[0] == 0 and node.modes() == ["Enabled", "Enabled"]
    stop(child)
    wait_until(lambda: descriptors(node) == [[], []], "both GPUs released", 20)


def test_a_held_gpu_can_be_reset_by_nvidia_smi(node, start):
    child = start()
    wait_held(node)
    assert node.smi("--gpu-reset", "-i", "0")[0] == 0
    wait_until(lambda: descriptors(node) == [[DAEMON] * 3] * 2, "both GPUs held again", 20)
    stop(child)


@pytest.mark.gpus(4)
def test_the_library_opens_one_gpu_after_another(node, start):
    """The driver could initialise all four at the same time, as it does with the kernel backend."""
    child = start()
    wait_held(node)
    stop(child)
    begun_and_done = [record["event"] for record in node.sim.journal() if record["event"] in ("initialising", "initialised")]
    assert begun_and_done == ["initialising", "initialised"] * 4


def begin_and_hang(node, start):
    """Starts a daemon whose first open hangs. Returns its process and that GPU; the other GPUs do not hang."""
    node.sim.ctl("hang", gpu="all")
    child = start()
    wait_until(lambda: node.sim.journal("initialising"), "first open", 20)
    hanging = node.sim.journal("initialising")[0]["gpu"]
    for gpu in set(node.gpus) - {hanging}:
        node.sim.ctl("hang", gpu=gpu, on=False)
    wait_until(lambda: states(node) == ["opening"] * 3, "the daemon serves clients", 20)
    return child, hanging


@pytest.mark.gpus(3)
def test_a_hanging_gpu_delays_the_other_gpus_but_no_client(node, start):
    child, hanging = begin_and_hang(node, start)
    with rpc.Connection(node.root / "run/nvidia-persistenced/socket", 10) as connection:
        assert [connection.get(gpu) for gpu in node.gpus] == [(rpc.SUCCESS, rpc.DISABLED)] * 3
    assert len(node.sim.journal("initialising")) == 1
    node.sim.ctl("hang", gpu=hanging, on=False)
    wait_held(node)
    assert descriptors(node) == [[DAEMON] * 3] * 3
    stop(child)


@pytest.mark.gpus(3)
def test_a_stop_while_a_gpu_hangs_removes_socket_and_pid_file_in_time(node, start):
    child, hanging = begin_and_hang(node, start)
    child.terminate()
    wait_until(lambda: os.listdir(node.root / "run/nvidia-persistenced") == [], "its files removed", STOP_LIMIT_SEC)
    node.sim.ctl("hang", gpu=hanging, on=False)
    said = child.communicate(timeout=20)[1]
    assert hanging in said, "the message names the GPU that hangs in the driver"
    wait_until(lambda: descriptors(node) == [[], [], []], "no GPU held", 20)
