# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A node without systemd: Debian with sysvinit as process 1, in runlevel 2. The simulated driver runs from gpus.load()
until the node is removed."""

import contextlib
import hashlib
import re
from pathlib import Path

from harness import events
from harness.simulator import QUICK, scenario

from . import base, cache
from .gpus import FILE, PROGRAM, Gpus
from .node import Node

# Instead of systemd: process 1, programs that run its scripts, and a program that makes users for packages.
SYSTEMDS = ("dbus", "libpam-systemd", "openssh-server", "systemd", "systemd-sysv")
OURS = ("initscripts", "insserv", "sysv-rc", "sysvinit-core", "systemd-standalone-sysusers")
PACKAGES = tuple(name for name in base.PACKAGES if name not in SYSTEMDS) + OURS

# No terminals and no hardware. NOTIFY_SOCKET comes from systemd-nspawn; daemons would take it for a service manager's.
INITTAB = """\
id:2:initdefault:
l1:1:wait:/usr/bin/env -u NOTIFY_SOCKET /etc/init.d/rc 1
l2:2:wait:/usr/bin/env -u NOTIFY_SOCKET /etc/init.d/rc 2
r1:1:wait:/bin/sh -c 'echo 1 >/run/reached'
r2:2:wait:/bin/sh -c 'echo 2 >/run/reached'
"""
# Scripts of runlevel 1 that would kill the simulator and ask for a password.
SINGLE_USER = ("killprocs", "single")
# tree/usr/lib/lab/gpus calls this when the GPUs exist.
NOTIFY = "#!/bin/sh\ntouch /run/gpus\n"


def make(root, release):
    base.debootstrap(root, release, PACKAGES)
    base.prepare(root)
    (root / "etc/inittab").write_text(INITTAB)
    notify = root / "usr/local/bin/systemd-notify"
    notify.write_text(NOTIFY)
    notify.chmod(0o755)
    for name in SINGLE_USER:
        for link in (root / "etc").glob(f"rc1.d/S??{name}"):
            link.unlink()


def used(release):
    """For a with statement: the root file system. It must not be written to."""
    decides = hashlib.sha256(Path(__file__).read_bytes() + Path(base.__file__).read_bytes())
    return cache.kept(f"base-sysv-{release}", decides, lambda root: make(root, release))


class SysvGpus(Gpus):
    def load(self, text=None, *, gpus=2, defaults=QUICK, **overrides):
        node = self._node
        node.put(node.release.simulator, PROGRAM)
        node.write(FILE, text or scenario(gpus, defaults, **overrides))
        node.exec("mknod", "--mode=666", "/dev/fuse", "c", "10", "229")
        node.exec("setsid /usr/lib/lab/gpus run >/run/gpus.log 2>&1 </dev/null &")
        events.wait_until(lambda: node.path("/run/gpus").exists(), "the simulated GPUs", 20)
        # Without this variable the daemon does not accept simulated GPUs. Services start with an empty environment.
        node.write("/etc/default/nvidia-persistenced", "export HOLDFAST_ROOT=/\n")
        self.addresses = self.list_addresses()


class SysvNode(Node):
    def __init__(self, lab, debian):
        self._stack = contextlib.ExitStack()
        super().__init__(lab, "sysv", lab.network[200], lab.release(debian), ())
        self.gpus = SysvGpus(self)
        lab.nodes.append(self)

    def root(self, release, packages):
        return self._stack.enter_context(used(release.name))

    @property
    def leader(self):
        """The pid of its process 1 on this machine."""
        group = self.lab.space.root / f"sys/fs/cgroup/{self._group}/payload/cgroup.procs"
        return next(int(pid) for pid in group.read_text().split() if self._is_process_1(pid))

    @staticmethod
    def _is_process_1(pid):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # ended after the group was read, so not process 1
            return False
        return re.search(r"^NSpid:.*\t1$", status, re.M) is not None

    def wait_booted(self, timeout=60):
        self._ready.wait(lambda event: event.startswith("X_NSPAWN_LEADER_PID="), "process 1", timeout)
        self.wait_runlevel(2)
        return self

    def wait_runlevel(self, level):
        events.wait_until(lambda: self.try_exec("cat", "/run/reached").out == f"{level}\n", f"runlevel {level}", 60)

    def remove(self):
        super().remove()
        self._stack.close()
