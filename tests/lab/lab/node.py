# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A node: Debian with systemd as process 1, its own address and its own disk. See ../README.md."""

import itertools
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from harness import events, process

from .clock import timed
from .gpus import Gpus
from .host import Host, Result

RUN_PROGRAM = Path(__file__).resolve().parent / "node-run"
# The environment of a login: root's PATH, and the variables of /etc/environment (tree/etc/environment).
ENVIRONMENT = {
    "HOLDFAST_ROOT": "/",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "dumb",
}


GROUP_NUMBERS = itertools.count(1)


class Console(events.Lines):
    """A node's console. When the node is off, it also ends the wait for a boot."""

    def __init__(self, what, pipe, boots):
        self._boots = boots
        super().__init__(what, pipe)

    def end(self):
        super().end()
        self._boots.end()


class Node(Host):
    def __init__(self, lab, name, address, release, packages):
        self.lab = lab
        self.name = name
        self.address = address
        self.gpus = Gpus(self)
        self.release = release
        self._base = self.root(release, packages)
        self._folder = lab.space.root / "run/lab" / name
        self._group = None
        self._process = None
        self._console = None
        self._ready = None  # systemd-nspawn's messages about each boot
        self._boots = 0
        self._prepare_disk()

    def _prepare_disk(self):
        """Writes the node's own id, its hosts file, and the lab's key for root."""
        disk = self._folder / "disk"
        (disk / "etc").mkdir(parents=True)
        (disk / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        (disk / "etc/hosts").write_text(self.lab.hosts())
        (disk / "root/.ssh").mkdir(parents=True, mode=0o700)
        (disk / "root").chmod(0o700)
        shutil.copy(f"{self.lab.key}.pub", disk / "root/.ssh/authorized_keys")

    def root(self, release, packages):
        """Returns the root file system below its disk."""
        return release.base(packages)

    # ---- power

    def start(self):
        """Switches the node on and does not wait, so that several can boot at once."""
        assert not self.is_on, f"{self.name} is on"
        ready = self._folder / f"ready.{uuid.uuid4().hex}"
        self._ready = events.Datagrams(f"{self.name}'s boots", ready)
        self._boots = 0
        # Always a new control group: after cut_power() has killed a group, newer kernels kill everything that systemd 257
        # starts in it.
        self._group = f"{self.lab.space.group}/{self.name}.{next(GROUP_NUMBERS)}"
        inside = f"/{ready.relative_to(self.lab.space.root)}"
        network = f"{self.address}/{self.lab.network.prefixlen}"
        command = [*self.lab.space.prefix, RUN_PROGRAM, self.name, network, self._base, self._group]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, env=os.environ | {"NOTIFY_SOCKET": inside})
        self._console = Console(f"{self.name}'s console", self._process.stdout, self._ready)

    @property
    def is_on(self):
        return self._process is not None and not process.wait_gone(self._process.pid, 0)

    def wait_booted(self, timeout=60):
        """Waits until systemd has completed the boot. Call it once for each boot."""
        self._boots += 1
        wanted = self._boots

        def has_booted(_):
            # Each boot has its own process 1, which may send READY=1 again later, after a long job.
            said = list(self._ready.all)
            begins = [i for i, event in enumerate(said) if event.startswith("X_NSPAWN_LEADER_PID=")]
            return len(begins) >= wanted and "READY=1" in said[begins[wanted - 1]:]

        try:
            self._ready.wait(has_booted, f"boot number {wanted}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\nand its console:\n{self._console.text()}") from None
        return self

    def boot(self):
        """Switches the node on; returns when it has booted."""
        with timed("boots"):
            self.start()
            return self.wait_booted()

    def reboot(self):
        """Reboots the node; returns when it has booted again."""
        with timed("reboots"):
            self.exec("systemctl", "reboot")
            return self.wait_booted()

    def poweroff(self, timeout=60):
        """Shuts the node down; returns when it is off. boot() starts it again with the same disk."""
        with timed("power-offs"):
            self.exec("systemctl", "poweroff")
            self._end(timeout)

    def cut_power(self):
        """Kills all processes of the node at once, without a shutdown."""
        (self.lab.space.root / f"sys/fs/cgroup/{self._group}/cgroup.kill").write_text("1")
        self._end(20)

    def remove(self):
        """Removes the node and its disk, which is in this machine's memory. Its name can be used again."""
        if self.is_on:
            self.cut_power()
        # Delete the port explicitly: with the network namespace alone, port and name would disappear only some time later.
        self.lab.space.run('umount "$0/root"; ip link del "port-$1"; ip netns del "$1"; rm -r "$0"',
                           f"/run/lab/{self.name}", self.name)
        self.lab.nodes.remove(self)

    def _end(self, timeout):
        process.reap(self._process.pid, timeout)
        self._process.returncode = 0
        self._process = None
        self._ready.close()

    # ---- commands

    @property
    def leader(self):
        """The pid of its process 1 on this machine."""
        group = self.lab.space.root / f"sys/fs/cgroup/{self._group}/payload/init.scope/cgroup.procs"
        return int(group.read_text().split()[0])

    def command(self, *words, environment=None):
        """Returns the command line with which this machine runs the words on the node, as root and in a control group of
        the node. It is for subprocess.Popen; use exec() for commands that end."""
        group = self.lab.space.root / f"sys/fs/cgroup/{self._group}/payload/lab"
        group.mkdir(exist_ok=True)
        variables = [f"{name}={value}" for name, value in (ENVIRONMENT | (environment or {})).items()]
        join = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', f"{group}/cgroup.procs"]
        return [*join, "nsenter", f"--target={self.leader}", "--all", "--", "env", "-i", *variables, *map(str, words)]

    def ssh(self, *words, timeout=60):
        """Runs a command over the network, as operators and Ansible do. Use exec() elsewhere, which is faster."""
        command = [*self.lab.prefix, "ssh", *self.lab.ssh_options, str(self.address), "--", *words]
        return Result(" ".join(words), subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                                      timeout=timeout, check=False))

    # ---- files

    def path(self, path):
        """Returns the path of a node's file on this machine. Does not support symbolic links to absolute paths."""
        return Path(f"/proc/{self.leader}/root") / str(path).lstrip("/")

    # ---- GPUs

    def simulate(self, text=None, **how):
        """Loads the simulated driver: see gpus.py."""
        self.gpus.load(text, **how)
        return self
