# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Measures the Ansible collection (fleet/ansible) on 2, 4 and 8 nodes of the lab: the time until a playbook ends, and the
controller's own processor time, which does not depend on other load on the machine.

The nodes run on the measuring machine, so the time until the end includes their work.
"""

import dataclasses
import math
import resource
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path += [str(TOP / "tests/lab"), str(TOP / "tests/lab/fleet")]

from controller import Controller  # noqa: E402 (found by the path above)
from lab import base  # noqa: E402
from lab.lab import Lab  # noqa: E402
from lab.packages import Packages  # noqa: E402

NAMES = ("holdfast", "holdfast-nvidia-persistenced")
GPUS = 8
PLAYS = ("check mode", "enable", "enable again", "check")


@dataclasses.dataclass
class Sample:
    """One run of a playbook, on n nodes with n forks."""
    play: str
    nodes: int
    wall_sec: float
    cpu_sec: float


def measure_play(what, play, nodes):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    play()
    wall_sec = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_sec = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  {nodes} nodes, {what}: {wall_sec:.1f} s; the controller's processor time: {cpu_sec:.1f} s", file=sys.stderr)
    return Sample(what, nodes, wall_sec, cpu_sec)


def measure_nodes(lab, controller, variables, count):
    nodes = [node.simulate(gpus=GPUS) for node in lab.boot(count, packages=base.FLEET)]

    def apply(playbook, *options, **more):
        return lambda: controller.apply(playbook, nodes, f"--forks={count}", *options, **more)

    try:
        yield measure_play(PLAYS[0], apply("enable", "--check", **variables), count)
        yield measure_play(PLAYS[1], apply("enable", **variables), count)
        yield measure_play(PLAYS[2], apply("enable", **variables), count)
        yield measure_play(PLAYS[3], apply("check"), count)
    finally:
        for node in nodes:
            node.remove()


def measure(build, counts):
    """Boots new nodes for each count, so the first `enable` finds nothing of ours on them."""
    lab = Lab(build)
    try:
        packages = Packages(lab.folder)
        # All nodes at once: with batches, the time would depend mainly on the number of batches.
        variables = {"holdfast_serial": "100%", "persistence_install_from": "files",
                     "persistence_package_files": [packages.file(name) for name in NAMES]}
        controller = Controller(lab)
        return [sample for count in counts for sample in measure_nodes(lab, controller, variables, count)]
    finally:
        lab.close()


def line_through(points):
    """Returns (a, b) of y = a + b x, by least squares."""
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points))
    slope = (sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points))
    return mean_y - slope * mean_x, slope


@dataclasses.dataclass
class Model:
    """start: the cost of a run without nodes; each: the controller's processor time for a node; alone: the time until a
    single node is done."""
    start_sec: float
    each_sec: float
    alone_sec: float

    def wall_sec(self, nodes, forks, processors):
        """Returns start_sec plus the longer of two times: that of the nodes, `forks` at a time, or that of the controller."""
        return self.start_sec + max(math.ceil(nodes / forks) * self.alone_sec, nodes * self.each_sec / processors)


def model_of(samples, play):
    mine = [sample for sample in samples if sample.play == play]
    start_sec, each_sec = line_through([(sample.nodes, sample.cpu_sec) for sample in mine])
    smallest = min(mine, key=lambda sample: sample.nodes)
    return Model(start_sec, each_sec, smallest.wall_sec - start_sec)
