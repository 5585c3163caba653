# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A lab: nodes on a network of their own, and what they share."""

import contextlib
import ipaddress
import itertools
import os
import subprocess
from pathlib import Path

from . import base, cache
from .clock import timed
from .node import Node
from .space import Space

TOP = Path(__file__).resolve().parent.parent.parent.parent
BUILD = Path(os.environ.get("HOLDFAST_BUILD", TOP / "build-lab")).resolve()


def install(build, folder):
    """What `meson install` lays down, below a folder."""
    done = subprocess.run([os.environ.get("MESON", "meson"), "install", "--no-rebuild", "--quiet", "-C", build,
                           "--destdir", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"cannot install {build}: {done.stdout}{done.stderr}"


class Lab:
    network = ipaddress.ip_network("10.99.0.0/24")

    def __init__(self, build=BUILD):
        self.build = build
        self.nodes = []
        self._stack = contextlib.ExitStack()
        self.folder = self._stack.enter_context(cache.scratch())  # keys, what was installed
        self.key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self._bases = {}
        self._installation = None
        self.space = Space(f"{self.network[1]}/{self.network.prefixlen}")

    @property
    def installation(self):
        """The build, installed into a folder; once."""
        if self._installation is None:
            self._installation = self.folder / "installation"
            with timed("meson install"):
                install(self.build, self._installation)
        return self._installation

    def _base(self, packages):
        if packages not in self._bases:
            self._bases[packages] = self._stack.enter_context(base.used(packages))
        return self._bases[packages]

    def node(self, packages=()):
        """A node, not yet on. packages: what its root file system has besides base.PACKAGES, sorted out once for all
        nodes that want the same."""
        names = {node.name for node in self.nodes}
        number = next(number for number in itertools.count(1) if f"node{number}" not in names)
        node = Node(self, f"node{number}", self.network[10 + number], self._base(tuple(packages)))
        self.nodes.append(node)
        return node

    def boot(self, count, **how):
        """So many new nodes, booted at the same time."""
        nodes = [self.node(**how) for _ in range(count)]
        with timed("boots"):
            for node in nodes:
                node.start()
            return [node.wait_booted() for node in nodes]

    def hosts(self):
        """The nodes' /etc/hosts: the names of the first hundred, whether there are so many or not."""
        lines = [f"{self.network[10 + number]} node{number}" for number in range(1, 101)]
        return "\n".join(["127.0.0.1 localhost", *lines, ""])

    @property
    def ssh_options(self):
        """For ssh, and for what calls it (Ansible): which key, and that a node is known by its address alone."""
        return ["-F", "none", "-i", str(self.key), "-o", "User=root", "-o", "StrictHostKeyChecking=no",
                "-o", f"UserKnownHostsFile={os.devnull}", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10"]

    @property
    def prefix(self):
        """Goes before a command of this machine that is to reach the nodes (ssh, ansible-playbook, curl)."""
        return self.space.network_prefix

    def close(self):
        """Takes everything away at once; nodes are not shut down."""
        with timed("clean-up"):
            try:
                self.space.close()
            finally:
                self._stack.close()
