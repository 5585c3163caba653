#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Fleets of any size, made from real output of `holdfast status --json`.

The command runs on a few nodes that consist of files and have scripted daemons. Each simulated node of the fleet gets one
of these answers, with its own names and numbers. tests/fleet/fleets.py COUNT [SEED] prints the lines that
holdfast-fleet-report reads on standard input.
"""

import copy
import json
import random
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "system"))

from harness.command import holdfast  # noqa: E402
from harness.node import CLOSING, FAILED, HELD, OPENING, RELEASED, UNKNOWN, Node, Row  # noqa: E402

EIGHT = tuple(f"0000:{bus}:00.0" for bus in ("17", "2a", "3a", "5d", "9a", "ab", "ba", "db"))

# The kinds of nodes on a bad day: (kind, how many of a thousand nodes). None: no answer.
MIX = (("healthy", 985), ("troubled", 3), ("without daemon", 3), ("silent", 1), ("without driver", 1), ("NVIDIA's daemon", 4),
       (None, 3))
FIRST = ("troubled", "healthy", None)  # every fleet has these
MODELS = {"Simulated H100 80GB": 1500, "Simulated A100 40GB": 2400}  # and the typical time of an open, in ms


def rows(trouble):
    held = [Row(address) for address in EIGHT]
    if not trouble:
        return held
    return [held[0],
            Row(EIGHT[1], FAILED, opens=0, failures=12, open_duration=0, since=1_800_000_000_000_000, errno=5, nv_status=0x62,
                error="cannot open /dev/nvidia1: Input/output error (the GPU did not initialise: see the kernel log)"),
            Row(EIGHT[2], OPENING, stuck=1, opens=0, open_duration=0),
            Row(EIGHT[3], RELEASED, wanted=0, leased=1),
            Row(EIGHT[4], RELEASED, wanted=0),
            Row(EIGHT[5], CLOSING, wanted=0),
            Row(EIGHT[6], HELD, uvm=1, uvm_text="NV_ERR_NVLINK_FABRIC_NOT_READY"),
            Row(EIGHT[7], FAILED, opens=0, open_duration=0, errno=1, error="not permitted", legacy=UNKNOWN)]


def with_driver(make_node):
    node = make_node()
    node.load_driver()
    for minor, address in enumerate(EIGHT):
        node.add_gpu(address, minor, model="Simulated H100 80GB")
    return node


def kinds_of_nodes(make_node):
    """Returns {kind: node}. Each node has what its kind requires: driver, GPUs, daemon."""
    nodes = {kind: with_driver(make_node) for kind in ("healthy", "troubled", "NVIDIA's daemon", "without daemon", "silent")}
    nodes["without driver"] = make_node()
    nodes["healthy"].start_daemon(rows=rows(trouble=False))
    nodes["troubled"].add_gpu(EIGHT[7], 7, model="Simulated H100 80GB", excluded=True)
    nodes["troubled"].start_daemon(rows=rows(trouble=True))
    nodes["NVIDIA's daemon"].start_daemon(modes={address[:-2]: (0, 1) for address in EIGHT})
    nodes["silent"].start_daemon(silent=True)
    return nodes


def patience(kind):
    """Returns options of the command: how long to wait for an answer. Only a silent node is certain not to answer."""
    return ("--timeout", "0.5" if kind == "silent" else "20")


def answers_of(nodes):
    """Returns {kind: answer of such a node}; each answer is checked against the schema."""
    return {kind: holdfast(node.root, "status", "--json", *patience(kind)).json("status") for kind, node in nodes.items()}


def heal(answer, chance):
    """Makes GPUs of a node with failures healthy: each except the first, with a probability of 0.7. They keep their names."""
    well = {key: answer["gpus"][0][key] for key in ("persistence_mode", "state", "held", "initialised", "detail")}
    for gpu in answer["gpus"][1:]:
        if chance.random() < 0.7 and not gpu["excluded"]:
            gpu.update(copy.deepcopy(well))
    answer["held"] = sum(gpu["held"] is True for gpu in answer["gpus"])


def varied(answer, chance):
    """Returns the same state for another node: other UUIDs, models and open times."""
    answer = copy.deepcopy(answer)
    model, typical = chance.choice(list(MODELS.items()))
    for gpu in answer["gpus"]:
        gpu["name"] = model
        gpu["uuid"] = f"GPU-{uuid.UUID(int=chance.getrandbits(128))}"
        if gpu["detail"] and gpu["detail"]["open_ms"]:
            gpu["detail"]["open_ms"] = round(typical * chance.lognormvariate(0, 0.12) * (4 if chance.random() < 0.001 else 1), 3)
    return answer


def line(name, kind, answers, chance):
    if kind is None:
        return {"node": name, "error": "no answer: ssh: connect to host: Connection timed out"}
    return {"node": name, "status": varied(answers[kind], chance)}


def grow(answers, count, seed=1):
    """Returns the lines of a fleet with COUNT nodes; the same lines for the same seed."""
    chance = random.Random(seed)
    names, weights = zip(*MIX)
    kinds = [*FIRST, *chance.choices(names, weights, k=count)][:count]
    chance.shuffle(kinds)
    lines = [line(f"gpu{i + 1:04}.cluster.example", kind, answers, chance) for i, kind in enumerate(kinds)]
    for entry, kind in zip(lines, kinds):
        if kind == "troubled" and count > len(FIRST):
            heal(entry["status"], chance)
    return lines


def main():
    nodes = []

    def make():
        nodes.append(Node())
        return nodes[-1]

    try:
        for entry in grow(answers_of(kinds_of_nodes(make)), *map(int, sys.argv[1:3])):
            print(json.dumps(entry))
    finally:
        for node in nodes:
            node.clean_up()


if __name__ == "__main__":
    main()
