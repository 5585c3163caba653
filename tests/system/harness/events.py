# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Waiting for what a process says, without sleeping: lines of a pipe and datagrams of a socket, each in one list."""

import contextlib
import re
import selectors
import socket
import threading
import time


class Events:
    """Things that happened, in order. Waiting looks at what is there and sleeps until more comes."""

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
        """What `find` makes of the first event that it likes. Fails with all events when none comes."""
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
            raise AssertionError(f"{self.what}: no {wanted} before {why}; there was:\n  " +
                                 "\n  ".join(str(event) for event in self.all or ["(nothing)"]))

    def wait_end(self, timeout):
        with self._changed:
            assert self._changed.wait_for(lambda: self.ended, timeout), f"{self.what}: no end within {timeout} s"


class Texts(Events):
    """Events that are lines of text."""

    def wait_for(self, pattern, timeout=5):
        """The match of the first line that has the pattern."""
        expression = re.compile(pattern)
        return self.wait(expression.search, f"line with {pattern!r}", timeout)

    def has(self, pattern):
        return any(re.search(pattern, line) for line in list(self.all))

    def text(self):
        return "\n".join(self.all)


class Lines(Texts):
    """The lines of a pipe, read by a thread until its end."""

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
        """Nothing is read meanwhile, but for one more line: whoever writes finds it full."""
        self._reads.clear()
        try:
            yield
        finally:
            self._reads.set()


class Datagrams(Lines):
    """The datagrams sent to a socket of ours, as lines: systemd's notification protocol and syslog both are that."""

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
        """The next datagram, which is there."""
        return self._socket.recv(65536)

    def close(self):
        self._stop.close()
        self.wait_end(5)


def wait_until(condition, what, timeout=5):
    """For what announces itself to nobody (a process that the kernel is still taking apart, say): asks again and again.

    Where there is an event, wait for that instead.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        pause.wait(0.01)
