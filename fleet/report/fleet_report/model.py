# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What a report shows of nodes and GPUs. None: unknown."""

from dataclasses import dataclass, field
from typing import List, Optional

# The states of docs/schemas/status.json, in the order of the page's legend: GPUs that need attention come first.
STATES = (
    "failed",
    "stuck",
    "not initialised",
    "released",
    "unknown",
    "leased",
    "opening",
    "closing",
    "initialised",
    "excluded",
    "held",
)


@dataclass
class Gpu:
    index: int
    bus_id: str
    uuid: Optional[str]
    name: Optional[str]
    persistence_mode: str
    state: str
    held: Optional[bool]
    clients: List[str]
    wanted: Optional[bool] = None
    configured: Optional[bool] = None
    since: Optional[str] = None
    open_ms: Optional[float] = None
    opens: Optional[int] = None
    failures: Optional[int] = None
    error: Optional[str] = None
    uvm: Optional[str] = None
    uvm_reason: Optional[str] = None
    settings: List[str] = field(default_factory=list)  # a sentence for each setting that differs, and each failed hook


@dataclass
class Node:
    """fault: why there is no usable answer. All fields below it are then empty, except answered."""

    name: str
    fault: Optional[str] = None
    answered: Optional[float] = None  # seconds since the epoch
    daemon: Optional[str] = None  # holdfast, nvidia, silent, none
    daemon_version: Optional[str] = None
    daemon_backend: Optional[str] = None
    daemon_pid: Optional[int] = None
    daemon_started: Optional[str] = None
    daemon_ready: Optional[bool] = None
    daemon_error: Optional[str] = None
    driver_loaded: Optional[bool] = None
    driver_version: Optional[str] = None
    gpus: List[Gpu] = field(default_factory=list)
