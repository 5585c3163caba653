# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What is wrong with a node, in the words of `holdfast check`: ok, warning, critical, unknown."""

import re
from dataclasses import dataclass
from typing import Optional

VERDICTS = ("critical", "unknown", "warning", "ok")  # the worst first


@dataclass
class Finding:
    verdict: str
    text: str
    gpu: Optional[int] = None


# State of a GPU -> verdict and sentence. The other states are no problem, or are explained by a finding about the node.
STATES = {
    "closing": ("warning", "is being released"),
    "failed": ("critical", "failed to initialise"),
    "leased": ("warning", "is released for a lease"),
    "opening": ("warning", "is being initialised"),
    "released": ("critical", "is released: persistence mode is off"),
    "stuck": ("critical", "is stuck in the driver"),
}

# Kind of daemon -> the problem, unless the answer contains an error text; None: no problem.
DAEMONS = {
    "holdfast": None,
    "none": "no persistence daemon runs",
    "nvidia": None,
    "silent": "the persistence daemon does not answer",
}


def judge_gpu(gpu):
    if gpu.state == "released" and gpu.configured is False:
        pass  # the configuration leaves it off
    elif gpu.state in STATES:
        verdict, text = STATES[gpu.state]
        reason = f": {gpu.error}" if gpu.error else ""
        yield Finding(verdict, f"GPU {gpu.index} {gpu.bus_id} {text}{reason}", gpu.index)
    if gpu.uvm == "waiting":
        reason = f": {gpu.uvm_reason}" if gpu.uvm_reason else ""
        yield Finding("warning", f"GPU {gpu.index} {gpu.bus_id}: UVM persistence is not on yet{reason}", gpu.index)
    for problem in gpu.settings:
        yield Finding("warning", f"GPU {gpu.index} {gpu.bus_id}: {problem}", gpu.index)


def judge_daemon(node):
    if node.daemon not in DAEMONS:
        yield Finding("unknown", f"the daemon is of an unknown kind: {node.daemon}")
    elif DAEMONS[node.daemon]:
        yield Finding("critical", node.daemon_error or DAEMONS[node.daemon])
    elif node.daemon_ready is False:
        yield Finding("warning", "the daemon is still starting")


def judge_driver(node):
    if node.driver_loaded is False:
        yield Finding("unknown", "the driver is not loaded")
    elif not node.gpus:
        yield Finding("unknown", "there is no GPU")


def judge(node):
    """Returns all findings about a node, the worst first."""
    if node.fault:
        return [Finding("unknown", node.fault)]
    if node.daemon == "none" and node.driver_loaded is False:  # not critical: it may be a node without GPUs
        return [Finding("unknown", "the driver is not loaded, and no persistence daemon runs")]
    findings = [*judge_daemon(node), *judge_driver(node)]
    findings += [finding for gpu in node.gpus for finding in judge_gpu(gpu)]
    return sorted(findings, key=lambda finding: VERDICTS.index(finding.verdict))


def verdict_of(findings):
    return findings[0].verdict if findings else "ok"


def natural(name):
    """A sort key by which node9 comes before node10."""
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in re.split(r"([0-9]{1,18})", name)]


def judged(nodes):
    """Returns [(node, findings)], the worst first, and nodes with the same verdict by name."""
    rows = [(node, judge(node)) for node in nodes]
    return sorted(rows, key=lambda row: (VERDICTS.index(verdict_of(row[1])), natural(row[0].name)))
