# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Runs the command on a pseudoterminal, which delivers Ctrl-C and new sizes as a real terminal does."""

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
os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first terminal that a session opens becomes its controlling terminal
os.execv(sys.argv[1], sys.argv[1:])
"""

CTRL_C = b"\x03"


class Pipe:
    """Our side of a terminal, read like a pipe: EIO, which Linux returns after the other side is closed, is its end."""

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
    """A terminal. lines: everything that the command has written, with escape sequences."""

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
        """Waits for the command's end and returns its exit status. `lines` is complete then."""
        status = self._child.wait(timeout)
        self.lines.wait_end(5)
        return status


@contextlib.contextmanager
def on_terminal(root, *arguments, columns=120, rows=40, **extra):
    """Runs the command on a terminal of this size."""
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
