# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The command on a terminal of its own, which sends it Ctrl-C and tells it of a new size as a real one does."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

from . import events
from .command import PROGRAM, environment

SESSION = """
import os, sys
os.setsid()
os.close(os.open(os.ttyname(0), os.O_RDWR))  # the session's first terminal becomes its own
os.execv(sys.argv[1], sys.argv[1:])
"""

CTRL_C = b"\x03"


class Pipe:
    """Our side of a terminal as a pipe: when the other side is closed, Linux says EIO."""

    def __init__(self, fd):
        self._file = open(fd, "rb", buffering=0)

    def readline(self):
        try:
            return self._file.readline()
        except OSError:
            return b""

    def close(self):
        self._file.close()


class Terminal:
    """lines: what was written to it, with all escape sequences."""

    def __init__(self, fd, child):
        self._fd = fd
        self._child = child
        self.pid = child.pid
        self.lines = events.Lines("the terminal", Pipe(os.dup(fd)))

    def wait_for(self, pattern, timeout=20):
        return self.lines.wait_for(pattern, timeout)

    def press(self, keys):
        os.write(self._fd, keys)

    def resize(self, columns, rows):
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def wait(self, timeout=30):
        """The exit status; all that was written is in `lines` then."""
        status = self._child.wait(timeout)
        self.lines.wait_end(5)
        return status


@contextlib.contextmanager
def on_terminal(root, *arguments, columns=120, rows=40, **extra):
    """Runs the command on a terminal of that size."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SESSION, PROGRAM, "--root", root, *arguments]
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**extra)) as child:
        os.close(theirs)
        try:
            yield Terminal(ours, child)
        finally:
            child.kill()
            os.close(ours)
