# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A terminal as people see it: tmux keeps the screen, so tests can see overwritten text and lines broken at the edge."""

import contextlib
import os
import re
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

from .command import PROGRAM, environment

# Runs a command, prints its exit status on the same screen, so after all of its output, and keeps the screen.
RUN = 'trap : INT; "$@"; printf "\\n[ended: %d]\\n" $?; exec cat'
ENDED = re.compile(r"^\[ended: (\d+)\]$")


class Screen:
    """One screen with this number of columns, on its own tmux server."""

    def __init__(self, folder, columns, rows=60):
        self.columns = columns
        self._tmux = ["tmux", "-S", str(Path(folder) / "tmux"), "-f", "/dev/null"]
        self._environment = {"HOME": folder, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        self._ask("new-session", "-d", "-x", str(columns), "-y", str(rows), "cat")
        self._ask("set-option", "-g", "status", "off")
        self._ask("resize-window", "-x", str(columns), "-y", str(rows))

    def _ask(self, *arguments, timeout=30):
        done = subprocess.run([*self._tmux, *arguments], env=self._environment, capture_output=True, text=True,
                              timeout=timeout, check=False)
        assert done.returncode == 0, f"tmux {arguments}: {done.stderr}"
        return done.stdout

    def close(self):
        self._ask("kill-server")

    def open(self, words, variables):
        """Runs a program on an empty screen. variables: its environment."""
        pairs = [f"{name}={value}" for name, value in variables.items()]
        self._ask("clear-history")
        self._ask("respawn-pane", "-k", shlex.join(map(str, ["env", *pairs, *words])))

    def start(self, root, *arguments, program=PROGRAM, user=None, **extra):
        """Starts the command. extra: additional environment variables."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        self.open(["sh", "-c", RUN, "sh", *become, program, "--root", root, *arguments],
                  environment(**extra) | {"TERM": "xterm-256color"})

    def run(self, root, *arguments, **how):
        """Runs the command until it ends. Returns the lines of the screen; `status` is the exit status."""
        self.start(root, *arguments, **how)
        self.status = int(self.wait_for(ENDED)[1])
        return self.lines()

    def press(self, key):
        self._ask("send-keys", key)

    def type(self, text):
        self._ask("send-keys", "-l", text)

    def resize(self, columns):
        self._ask("resize-window", "-x", str(columns))

    def lines(self, *how):
        """The lines of the screen and those scrolled out at its top. "-J": join broken lines; "-e": keep colours."""
        text = self._ask("capture-pane", "-p", "-S", "-", *how)
        lines = [line.rstrip() for line in text.splitlines()]
        while lines and (lines[-1] == "" or ENDED.search(lines[-1])):
            lines.pop()
        return lines

    def broken_lines(self):
        """The lines that are longer than the screen is wide."""
        return [line for line in self.lines("-J") if len(line) > self.columns]

    def wait_for(self, pattern, timeout=20):
        """Waits for a line on the screen that contains the pattern. Returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            text = self._ask("capture-pane", "-p")
            for line in text.splitlines():
                if found := re.search(pattern, line.rstrip()):
                    return found
            assert time.monotonic() < deadline, f"no {pattern!r} within {timeout} s on this screen:\n{text}"
            time.sleep(0.02)


@contextlib.contextmanager
def screen(columns):
    with tempfile.TemporaryDirectory(prefix="holdfast-tmux-") as folder:
        opened = Screen(folder, columns)
        try:
            yield opened
        finally:
            opened.close()
