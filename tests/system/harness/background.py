# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Runs a call that may block on its own thread."""

import os
import threading


class Background:
    """Background(os.open, path, flags) starts the call at once. result() returns what it returned, or raises what it raised."""

    def __init__(self, call, *arguments):
        self._call = call
        self._arguments = arguments
        self._value = self._error = None
        # A daemon thread, so that a call that never returns does not keep the test process alive.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._value = self._call(*self._arguments)
        except BaseException as error:
            self._error = error

    def ended(self, within):
        """Waits up to `within` seconds. Returns whether the call has ended."""
        self._thread.join(within)
        return not self._thread.is_alive()

    def result(self, timeout=20):
        assert self.ended(timeout), f"{self._call.__name__}{self._arguments} did not end within {timeout} s"
        if self._error is not None:
            raise self._error
        return self._value


class Opening(Background):
    """A call that returns a descriptor. close() closes it; further calls of close() do nothing."""

    def close(self, timeout=20):
        """Raises what the call raised."""
        fd = self.result(timeout)
        if fd is not None:
            self._value = None
            os.close(fd)
