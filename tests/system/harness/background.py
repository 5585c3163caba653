# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A call that may take long, on a thread of its own."""

import os
import threading


class Background:
    """Background(os.open, path, flags): runs it at once. What it gave or raised comes out of result()."""

    def __init__(self, call, *arguments):
        self._call = call
        self._arguments = arguments
        self._value = self._error = None
        # A call that never returns must not keep the tests' process.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._value = self._call(*self._arguments)
        except BaseException as error:
            self._error = error

    def ended(self, within):
        """Whether it ends within so many seconds."""
        self._thread.join(within)
        return not self._thread.is_alive()

    def result(self, timeout=20):
        assert self.ended(timeout), f"{self._call.__name__}{self._arguments} did not end within {timeout} s"
        if self._error is not None:
            raise self._error
        return self._value


class Opening(Background):
    """A call that gives a descriptor, which close() closes; once, however often it is called."""

    def close(self, timeout=20):
        """Raises what the open raised."""
        fd = self.result(timeout)
        if fd is not None:
            self._value = None
            os.close(fd)
