# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A lab: nodes on their own network, and what they share."""

import contextlib
import ipaddress
import itertools
import os
import subprocess
from pathlib import Path

from . import archive, cache
from .clock import timed
from .node import Node
from .release import OtherRelease, OwnRelease
from .space import Space

TOP = Path(__file__).resolve().parent.parent.parent.parent
BUILD = Path(os.environ.get("HOLDFAST_BUILD", TOP / "build-lab")).resolve()


class Lab:
    network = ipaddress.ip_network("10.99.0.0/24")

    def __init__(self, build=BUILD):
        self.build = build
        self.nodes = []
        self._stack = contextlib.ExitStack()
        self.folder = self._stack.enter_context(cache.scratch())  # keys, installations
        self.key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.own = OwnRelease(self._stack, self.folder, build)
        self._releases = {archive.OWN: self.own}
        self.space = Space(f"{self.network[1]}/{self.network.prefixlen}")

    def release(self, name):
        """Returns what nodes of that release of Debian consist of (release.py)."""
        if name not in self._releases:
            self._releases[name] = OtherRelease(self._stack, self.folder, name)
        return self._releases[name]

    def node(self, packages=(), debian=archive.OWN):
        """Makes a node, switched off. packages: additional packages in its root file system, which nodes with the same
        packages share. debian: its release."""
        names = {node.name for node in self.nodes}
        number = next(number for number in itertools.count(1) if f"node{number}" not in names)
        node = Node(self, f"node{number}", self.network[10 + number], self.release(debian), tuple(packages))
        self.nodes.append(node)
        return node

    def boot(self, count, **how):
        """Makes COUNT nodes and boots them at the same time."""
        nodes = [self.node(**how) for _ in range(count)]
        with timed("boots"):
            for node in nodes:
                node.start()
            return [node.wait_booted() for node in nodes]

    def hosts(self):
        """Returns the nodes' /etc/hosts, with the names of the first hundred nodes, even if there are fewer."""
        lines = [f"{self.network[10 + number]} node{number}" for number in range(1, 101)]
        return "\n".join(["127.0.0.1 localhost", *lines, ""])

    @property
    def ssh_options(self):
        """Options for ssh and for programs that call it (Ansible): the key, and no checks of host keys."""
        return ["-F", "none", "-i", str(self.key), "-o", "User=root", "-o", "StrictHostKeyChecking=no",
                "-o", f"UserKnownHostsFile={os.devnull}", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10"]

    @property
    def prefix(self):
        """The prefix of a command on this machine that must reach the nodes (ssh, ansible-playbook, curl)."""
        return self.space.network_prefix

    def close(self):
        """Removes everything at once, without shutting nodes down."""
        with timed("clean-up"):
            try:
                self.space.close()
            finally:
                self._stack.close()
