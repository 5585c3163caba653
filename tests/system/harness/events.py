# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Waits for what a process writes, without polling: lines of a pipe, datagrams of a socket."""

import contextlib
import re
import selectors
import socket
import threading
import time


class Events:
    """A list of events in their order. wait() looks at those that have arrived and then sleeps until the next arrives."""

    def __init__(self, what):
        self.what = what
        self.all = []
        self.ended = False
        self._changed = threading.Condition()

    def add(self, event):
        with self._changed:
            self.all.append(event)
            self._changed.notify_all()

    def end(self):
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def wait(self, find, wanted, timeout):
        """Calls `find` with each event, and returns its first result that is true. If there is none in time, fails and lists
        all events."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for event in self.all[seen:]:
                    found = find(event)
                    if found:
                        return found
                seen = len(self.all)
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    break
                self._changed.wait(left)
            why = "it ended" if self.ended else f"{timeout} s passed"
            raise AssertionError(f"{self.what}: no {wanted} before {why}. Events:\n  " +
                                 "\n  ".join(str(event) for event in self.all or ["(nothing)"]))

    def wait_end(self, timeout):
        with self._changed:
            assert self._changed.wait_for(lambda: self.ended, timeout), f"{self.what}: no end within {timeout} s"


class Texts(Events):
    """Events that are lines of text."""

    def wait_for(self, pattern, timeout=5):
        """Returns the match of the first line that contains the pattern."""
        expression = re.compile(pattern)
        return self.wait(expression.search, f"line with {pattern!r}", timeout)

    def has(self, pattern):
        return any(re.search(pattern, line) for line in list(self.all))

    def text(self):
        return "\n".join(self.all)


class Lines(Texts):
    """The lines of a pipe, which a thread reads until the end of the pipe."""

    def __init__(self, what, pipe):
        super().__init__(what)
        self.pipe = pipe
        self._reads = threading.Event()
        self._reads.set()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in iter(self.pipe.readline, b""):
            self.add(line.decode(errors="replace").rstrip("\n"))
            self._reads.wait()
        self.pipe.close()
        self.end()

    @contextlib.contextmanager
    def held(self):
        """Stops reading inside the `with` block, after at most one more line, so that the pipe fills up."""
        self._reads.clear()
        try:
            yield
        finally:
            self._reads.set()


class Datagrams(Lines):
    """The lines of the datagrams that a socket receives, as with systemd's notification protocol and syslog."""

    def __init__(self, what, path, mode=0o777):
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(mode)
        self._stop, self._stopped = socket.socketpair()
        super().__init__(what, None)

    def _read(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                self._reads.wait()
                if self._socket in ready:
                    for line in self.receive().decode(errors="replace").rstrip("\n\0").split("\n"):
                        self.add(line)
                elif self._stopped in ready:
                    break
        self._socket.close()
        self._stopped.close()
        self.end()

    def receive(self):
        """Returns the next datagram, which has already arrived."""
        return self._socket.recv(65536)

    def close(self):
        self._stop.close()
        self.wait_end(5)


def wait_until(condition, what, timeout=5):
    """Polls a condition that sends no event, such as the end of a process that is not a child. Returns its value once true.

    If there is an event, wait for the event instead.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not true within {timeout} s: {what}"
        pause.wait(0.01)
