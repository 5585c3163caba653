# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A terminal as people see it: tmux keeps the screen, so that what was written over and what was broken at its edge shows."""

import contextlib
import os
import re
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

from .command import PROGRAM, environment

# Runs a command, says on the screen itself how it ended, and keeps the screen. In the same stream nothing can overtake.
RUN = 'trap : INT; "$@"; printf "\\n[ended: %d]\\n" $?; exec cat'
ENDED = re.compile(r"^\[ended: (\d+)\]$")


class Screen:
    """One screen of that many columns, on a tmux server of its own."""

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
        """Runs any program on the screen, which is empty before; variables: its environment."""
        pairs = [f"{name}={value}" for name, value in variables.items()]
        self._ask("clear-history")
        self._ask("respawn-pane", "-k", shlex.join(map(str, ["env", *pairs, *words])))

    def start(self, root, *arguments, program=PROGRAM, user=None, **extra):
        """Runs the command. extra: of its environment."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        self.open(["sh", "-c", RUN, "sh", *become, program, "--root", root, *arguments],
                  environment(**extra) | {"TERM": "xterm-256color"})

    def run(self, root, *arguments, **how):
        """The same to its end, with what the screen shows then; its exit status is in `status`."""
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
        """The lines of the screen, also those that have gone out at its top. "-J": broken ones joined; "-e": colours."""
        text = self._ask("capture-pane", "-p", "-S", "-", *how)
        lines = [line.rstrip() for line in text.splitlines()]
        while lines and (lines[-1] == "" or ENDED.search(lines[-1])):
            lines.pop()
        return lines

    def broken_lines(self):
        """The lines that were longer than the screen is wide."""
        return [line for line in self.lines("-J") if len(line) > self.columns]

    def wait_for(self, pattern, timeout=20):
        """The match of the first line on the screen that has the pattern, as soon as there is one."""
        deadline = time.monotonic() + timeout
        while True:
            text = self._ask("capture-pane", "-p")
            for line in text.splitlines():
                if found := re.search(pattern, line.rstrip()):
                    return found
            assert time.monotonic() < deadline, f"no {pattern!r} within {timeout} s on:\n{text}"
            time.sleep(0.02)


@contextlib.contextmanager
def screen(columns):
    with tempfile.TemporaryDirectory(prefix="holdfast-tmux-") as folder:
        opened = Screen(folder, columns)
        try:
            yield opened
        finally:
            opened.close()
