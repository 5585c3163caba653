# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""nvidia-smi drain removes a GPU from the bus and finds it again. That requires that its persistence mode is off."""

from node import DAEMON


def name(node):
    """Returns the name of GPU 0 as nvidia-smi prints it."""
    return f"GPU 0000{node.gpus[0].upper()}"


def drain(node, *words):
    return node.smi("drain", "-p", node.gpus[0], *words)


def removed(node):
    return 0, [f"{name(node)} successfully removed."]


def test_a_held_gpu_is_not_removed_and_stays_held(node, daemon):
    assert drain(node, "-m", "1") == (0, [f"Successfully set {name(node)} drain state to: draining."])
    assert drain(node, "-q") == (0, [f"The current drain state of {name(node)} is: draining."])
    assert drain(node, "-r") == (255, ["Failed to remove the specified GPU."])
    assert drain(node, "-m", "0") == (0, [f"Successfully set {name(node)} drain state to: not draining."])
    node.wait_holders([DAEMON], [DAEMON])


def test_a_gpu_that_is_off_can_be_removed_and_rediscovered_and_the_other_stays_held(node, daemon):
    assert node.smi("-i", "0", "-pm", "0")[0] == 0
    drain(node, "-m", "1")
    node.wait_holders([], [DAEMON])
    assert drain(node, "-r") == removed(node)
    assert not node.sim.gpu(node.gpus[0])["present"]
    assert node.modes() == ["Enabled"]
    assert node.smi("drain", "-d") == (0, ["Discovery completed successfully.  Any discovered GPUs will now appear in the "
                                           "enumeration list and device count."])
    assert node.smi("-i", "1", "--query-gpu=pci.bus_id,persistence_mode", "--format=csv,noheader") == (
        0, [f"0000{node.gpus[1].upper()}, Enabled"])
    assert node.sim.gpu(node.gpus[1])["teardowns"] == 0


def test_holdfast_release_lets_a_gpu_be_removed_and_holds_it_again_when_it_is_rediscovered(node):
    node.world.start()
    smi = f"{node.stock.smi} drain"
    line = f"{smi} -p {node.gpus[0]} -m 1 && {smi} -p {node.gpus[0]} -r && {smi} -d"
    done = node.holdfast("release", "--gpu=0", "--", *map(str, node.command("sh", "-c", line)), timeout=60,
                         **node.stock.environment)
    assert done.status == 0, done.err
    assert removed(node)[1][0] in done.out and "1 of 1 GPU held again" in done.err
    node.wait_holders([DAEMON], [DAEMON])
