# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""nvidia-smi --gpu-reset drains, unbinds, resets and binds the GPU. The daemon must release the GPU in time."""

import contextlib
import subprocess

from harness import holdfast_rpc
from harness.events import wait_until
from node import DAEMON

RESET = ("--gpu-reset", "-i", "0")


def success(node):
    return 0, [f"GPU 0000{node.gpus[0].upper()} was successfully reset.", "All done."]


def resets(node):
    return len([record for record in node.sim.journal("reset") if record["gpu"] == node.gpus[0]])


def through_release(node, *options, timeout=60):
    """Resets GPU 0 as the runbook says."""
    return node.holdfast("release", "--gpu=0", *options, "--", *map(str, node.command(node.stock.smi, *RESET)),
                         timeout=timeout, **node.stock.environment)


def test_a_held_gpu_is_reset_and_held_again(node, daemon):
    assert node.smi(*RESET) == success(node)
    assert resets(node) == 1
    node.wait_holders([DAEMON], [DAEMON])
    assert node.modes() == ["Enabled", "Enabled"]


def test_a_gpu_that_is_off_stays_off_after_its_reset(node, daemon):
    node.smi("-i", "0", "-pm", "0")
    assert node.smi(*RESET) == success(node)
    assert resets(node) == 1
    # If the daemon opened GPU 0, it would do so before GPU 1, which is switched off and on after the reset.
    node.smi("-i", "1", "-pm", "0")
    node.smi("-i", "1", "-pm", "1")
    node.wait_holders([], [DAEMON])
    assert node.modes() == ["Disabled", "Enabled"]


def test_without_a_daemon_a_gpu_can_be_reset(node):
    assert node.smi(*RESET) == success(node)
    assert resets(node) == 1 and node.modes() == ["Disabled", "Disabled"]


@contextlib.contextmanager
def beginning(node, *words):
    """A context manager: a running nvidia-smi."""
    with subprocess.Popen(node.command(node.stock.smi, *words), env=node.environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def test_the_reset_of_a_gpu_that_a_job_has_open_waits_for_the_job(node, daemon):
    """nvidia-smi looks for clients of the resource manager, not for open files. So it begins, and its unbind waits."""
    with beginning_beside_job(node) as (job, reset):
        job.stdin.close()
        assert reset.wait(60) == 0
        assert success(node)[1][0] in reset.stdout.read()
    node.wait_holders([DAEMON], [DAEMON])


@contextlib.contextmanager
def beginning_beside_job(node):
    with node.sim.open_gpu(node.gpus[0]) as job, beginning(node, *RESET) as reset:
        wait_until(lambda: node.sim.gpu(node.gpus[0])["unbinding"], "the unbind waits", 20)
        yield job, reset


def test_holdfast_release_lets_a_gpu_be_reset_and_holds_it_again(node):
    node.world.start()
    done = through_release(node)
    assert done.status == 0, done.err
    assert success(node)[1][0] in done.out and "1 of 1 GPU held again" in done.err
    assert resets(node) == 1
    node.wait_holders([DAEMON], [DAEMON])


def test_holdfast_release_names_a_job_and_resets_nothing(node):
    node.world.start()
    with node.sim.open_gpu(node.gpus[0]) as job:
        done = through_release(node)
        assert done.status != 0 and str(job.pid) in done.err and done.out == ""
        job.stdin.close()
    assert resets(node) == 0
    node.wait_holders([DAEMON], [DAEMON])


def test_a_gpu_can_be_reset_during_a_lease_which_continues(node):
    daemon = node.world.start()
    with holdfast_rpc.Connection(daemon.socket_path, 10) as connection:
        connection.release()
        assert node.smi(*RESET) == success(node)
        assert node.modes() == ["Disabled", "Disabled"]
    node.wait_holders([DAEMON], [DAEMON])
