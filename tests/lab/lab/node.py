# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A node: Debian with systemd as process 1, an address, a disk of its own. See ../README.md."""

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from harness import events, process

from .clock import timed
from .gpus import Gpus

RUN_PROGRAM = Path(__file__).resolve().parent / "node-run"
# A login's, as far as commands see it: root's PATH, and what /etc/environment says (tree/etc/environment).
ENVIRONMENT = {
    "HOLDFAST_ROOT": "/",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "dumb",
}


class Result:
    """How a command in a node ended."""

    def __init__(self, command, completed):
        self.command = command
        self.status = completed.returncode
        self.out = completed.stdout
        self.err = completed.stderr

    def __str__(self):
        return f"{self.command!r}: exit status {self.status}\n{self.out}{self.err}"

    def json(self):
        return json.loads(self.out)


class Node:
    def __init__(self, lab, name, address, base):
        self.lab = lab
        self.name = name
        self.address = address
        self.gpus = Gpus(self)
        self._base = base
        self._folder = lab.space.root / "run/lab" / name
        self._group = f"{lab.space.group}/{name}"
        self._process = None
        self._console = None
        self._ready = None  # systemd-nspawn's word of each boot
        self._boots = 0
        self._prepare_disk()

    def _prepare_disk(self):
        """What a node has from its first boot on: its own id, and the lab's key for root."""
        disk = self._folder / "disk"
        (disk / "etc").mkdir(parents=True)
        (disk / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        (disk / "etc/hosts").write_text(self.lab.hosts())
        (disk / "root/.ssh").mkdir(parents=True, mode=0o700)
        (disk / "root").chmod(0o700)
        shutil.copy(f"{self.lab.key}.pub", disk / "root/.ssh/authorized_keys")

    # ---- power

    def start(self):
        """Switches it on, and does not wait: several may boot at once."""
        assert not self.is_on, f"{self.name} is on"
        ready = self._folder / f"ready.{uuid.uuid4().hex}"
        self._ready = events.Datagrams(f"{self.name}'s boots", ready)
        self._boots = 0
        inside = f"/{ready.relative_to(self.lab.space.root)}"
        network = f"{self.address}/{self.lab.network.prefixlen}"
        command = [*self.lab.space.prefix, RUN_PROGRAM, self.name, network, self._base, self._group]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, env=os.environ | {"NOTIFY_SOCKET": inside})
        self._console = events.Lines(f"{self.name}'s console", self._process.stdout)

    @property
    def is_on(self):
        return self._process is not None and not process.wait_gone(self._process.pid, 0)

    def wait_booted(self, timeout=60):
        """Until systemd has done all that it does at a boot. Once for each boot."""
        self._boots += 1
        wanted = self._boots

        def has_booted(_):
            return self._ready.all.count("READY=1") >= wanted

        try:
            self._ready.wait(has_booted, f"boot number {wanted}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\nand its console:\n{self._console.text()}") from None
        return self

    def boot(self):
        """Switches it on; returns when it has booted."""
        with timed("boots"):
            self.start()
            return self.wait_booted()

    def reboot(self):
        """As `reboot` does; returns when it has booted again."""
        with timed("reboots"):
            self.exec("systemctl", "reboot")
            return self.wait_booted()

    def poweroff(self, timeout=60):
        """As `poweroff` does; returns when it is off. boot() starts it again, with its disk as it is."""
        with timed("power-offs"):
            self.exec("systemctl", "poweroff")
            self._end(timeout)

    def cut_power(self):
        """No shutdown: all processes are gone at once."""
        (self.lab.space.root / f"sys/fs/cgroup/{self._group}/cgroup.kill").write_text("1")
        self._end(20)

    def _end(self, timeout):
        process.reap(self._process.pid, timeout)
        self._process.returncode = 0
        self._process = None
        self._ready.close()

    # ---- commands

    @property
    def leader(self):
        """Its process 1, as this machine numbers it."""
        group = self.lab.space.root / f"sys/fs/cgroup/{self._group}/payload/init.scope/cgroup.procs"
        return int(group.read_text().split()[0])

    def command(self, *words, environment=None):
        """The whole command line, on this machine, that runs the words in the node, as root, in a control group of the
        node's. For subprocess.Popen; exec() is for what ends."""
        group = self.lab.space.root / f"sys/fs/cgroup/{self._group}/payload/lab"
        group.mkdir(exist_ok=True)
        variables = [f"{name}={value}" for name, value in (ENVIRONMENT | (environment or {})).items()]
        join = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', f"{group}/cgroup.procs"]
        return [*join, "nsenter", f"--target={self.leader}", "--all", "--", "env", "-i", *variables, *map(str, words)]

    def try_exec(self, *words, input=None, timeout=60, environment=None):
        """Runs a command in the node, whatever its exit status. One word with blanks is a shell's line."""
        if len(words) == 1 and " " in words[0]:
            words = ("sh", "-c", words[0])
        done = subprocess.run(self.command(*words, environment=environment), input=input or "", capture_output=True,
                              text=True, timeout=timeout, check=False)
        return Result(" ".join(map(str, words)), done)

    def exec(self, *words, **how):
        """Runs a command in the node, which must succeed; what it wrote to standard output."""
        result = self.try_exec(*words, **how)
        assert result.status == 0, f"{self.name}: {result}"
        return result.out

    def ssh(self, *words, timeout=60):
        """Runs a command over the network, as operators and Ansible do. For tests about just that: exec() is quicker."""
        command = [*self.lab.prefix, "ssh", *self.lab.ssh_options, str(self.address), "--", *words]
        return Result(" ".join(words), subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                                      timeout=timeout, check=False))

    def journal(self, *options, unit=None):
        """The journal's messages, one a line, of all boots unless "--boot" is among the options."""
        which = [f"--unit={unit}"] if unit else []
        self.exec("journalctl", "--sync")
        return self.exec("journalctl", "--no-pager", "--quiet", "--output=cat", *which, *options)

    # ---- files

    def path(self, path):
        """The node's file, for this machine's programs. Not through symbolic links to absolute paths."""
        return Path(f"/proc/{self.leader}/root") / str(path).lstrip("/")

    def put(self, source, target):
        """Copies a file or a folder of this machine to that path in the node, with modes."""
        folder = Path(target).parent
        pack = subprocess.run(["tar", "--create", "--directory", Path(source).parent, "--owner=0", "--group=0",
                               f"--transform=s,^{Path(source).name},{Path(target).name},", Path(source).name],
                              capture_output=True, check=True)
        self._unpack(pack.stdout, folder)

    def put_tree(self, source):
        """Lays a folder's content over the node's root: what DESTDIR installed, say."""
        pack = subprocess.run(["tar", "--create", "--directory", source, "--owner=0", "--group=0", "."],
                              capture_output=True, check=True)
        self._unpack(pack.stdout, "/")

    def _unpack(self, archive, folder):
        # --no-overwrite-dir: the root folder's own mode is not the archive's business.
        command = self.command("sh", "-c", 'mkdir -p "$0" && tar --extract --no-overwrite-dir --directory "$0"', folder)
        done = subprocess.run(command, input=archive, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, f"{self.name}: cannot unpack in {folder}: {done.stderr.decode()}"

    def write(self, path, text, mode=0o644):
        """Makes a file in the node, with its folders."""
        self.exec("sh", "-c", f'mkdir -p "$(dirname "$0")" && cat >"$0" && chmod {mode:o} "$0"', path, input=text)

    def read(self, path):
        return self.exec("cat", path)

    # ---- what is on it

    def install(self):
        """The release build as `make install prefix=/usr DESTDIR=...` lays it down, without packages: files, user."""
        self.put_tree(self.lab.installation)
        self.exec("systemctl", "daemon-reload")
        self.exec("systemd-sysusers")
        self.exec("systemd-tmpfiles", "--create", "--prefix=/run/nvidia-persistenced")
        return self

    def simulate(self, text=None, **how):
        """Loads the simulated driver: see gpus.py."""
        self.gpus.load(text, **how)
        return self
