# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The namespaces that a lab lives in: its own mounts, network and processes, all gone when this process is, however it
ends. What the kernel does not take away by itself (empty control groups) the next lab does."""

import ctypes
import os
import signal
import subprocess
from pathlib import Path

from harness import events, process

PROGRAM = Path(__file__).resolve().parent / "space"
GROUPS = "holdfast-lab."
PR_SET_PDEATHSIG = 1


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def remove_groups(folder):
    """The group and those in it, if they are empty."""
    for path, _, _ in os.walk(folder, topdown=False):
        try:
            os.rmdir(path)
        except OSError:
            continue


class Space:
    def __init__(self, network):
        command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation=private",
                   PROGRAM, network]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        self.group = f"{GROUPS}{os.getpid()}.{self._process.pid}"
        errors = events.Lines("the lab's space", self._process.stderr)
        try:
            events.Lines("the lab's space", self._process.stdout).wait_for("^ready$", timeout=20)
        except AssertionError as error:
            self.close()
            raise AssertionError(f"{error}\nand said:\n{errors.text()}") from None
        self._clear_groups()

    def _namespace(self, name):
        return f"/proc/{self._process.pid}/ns/{name}"

    @property
    def root(self):
        """This machine's files as seen from within."""
        return Path(f"/proc/{self._process.pid}/root")

    @property
    def prefix(self):
        """Goes before a command that is to run in all of the namespaces."""
        names = {"mount": "mnt", "net": "net", "pid": "pid_for_children"}
        return ["nsenter", *(f"--{option}={self._namespace(name)}" for option, name in names.items()), "--"]

    def run(self, line, *arguments):
        """Runs a shell's line with $0, $1, ... in all of the namespaces."""
        subprocess.run([*self.prefix, "sh", "-ec", line, *arguments], stdin=subprocess.DEVNULL, check=True)

    @property
    def network_prefix(self):
        """Goes before a command of this machine that is to see the nodes' network, and nothing else of it."""
        return ["nsenter", f"--net={self._namespace('net')}", "--"]

    def _clear_groups(self):
        """Those of labs whose process is gone: theirs are all dead."""
        for folder in (self.root / "sys/fs/cgroup").glob(f"{GROUPS}*"):
            if not Path("/proc", folder.name.split(".")[1]).exists():
                remove_groups(folder)

    def close(self):
        groups = os.open(self.root / "sys/fs/cgroup", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._process.stdin.close()
        process.reap(self._process.pid, 60)
        self._process.returncode = 0
        remove_groups(f"/proc/self/fd/{groups}/{self.group}")
        os.close(groups)
