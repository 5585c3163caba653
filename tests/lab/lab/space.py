# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The namespaces of a lab: its own mounts, network and processes. The kernel removes them when this process ends for any
reason. The next lab removes what the kernel leaves behind: empty control groups."""

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
    """Removes the group and those in it, if they are empty."""
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
            raise AssertionError(f"{error}\nits errors:\n{errors.text()}") from None
        self._clear_groups()

    def _namespace(self, name):
        return f"/proc/{self._process.pid}/ns/{name}"

    @property
    def root(self):
        """The root folder as seen from inside the namespaces."""
        return Path(f"/proc/{self._process.pid}/root")

    @property
    def prefix(self):
        """The prefix of a command that must run in all of the namespaces."""
        names = {"mount": "mnt", "net": "net", "pid": "pid_for_children"}
        return ["nsenter", *(f"--{option}={self._namespace(name)}" for option, name in names.items()), "--"]

    def run(self, line, *arguments):
        """Runs a shell line with the arguments $0, $1, ... in all of the namespaces."""
        subprocess.run([*self.prefix, "sh", "-ec", line, *arguments], stdin=subprocess.DEVNULL, check=True)

    @property
    def network_prefix(self):
        """The prefix of a command that must run in the nodes' network, and otherwise on this machine."""
        return ["nsenter", f"--net={self._namespace('net')}", "--"]

    def _clear_groups(self):
        """Removes the groups of labs whose process has ended: all processes in them have ended, too."""
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
