# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A persistence daemon under trial: ours in the foreground, or NVIDIA's, which forks. The trial ends each by its pid."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from harness import events, holdfast_rpc, process

from .record import Failed, NotPossible

READY_SEC = 180  # for many uninitialised GPUs, which drivers before 550 open one after another
STOP_SEC = 60  # more than the promised 5 s, because the driver may be slower
HONEST_SEC = 2
CONTROL = "nvidiactl"


class Daemon:
    """A running daemon as the checks see it: its pid, its socket, its open files."""

    def __init__(self, runtime_directory, pid):
        self.runtime_directory = runtime_directory
        self.pid = pid

    @property
    def socket(self):
        return self.runtime_directory / "socket"

    def connect(self, timeout=HONEST_SEC):
        return holdfast_rpc.Connection(self.socket, timeout)

    def get(self, address):
        """Gets (status, mode) on a new connection, as NVML does."""
        with self.connect() as connection:
            return connection.get(address)

    def list(self):
        with self.connect() as connection:
            return connection.list()

    def gpu(self, address):
        with self.connect() as connection:
            return connection.gpu(address)

    def calls(self):
        """Returns the number of calls that it has answered, including this one."""
        with self.connect() as connection:
            return connection.stats()["calls"]

    def _opened(self):
        return [Path(target).name for target in process.open_files(self.pid).values() if "/dev/nvidia" in target]

    def nodes(self):
        """Returns how often it has each of the driver's nodes open, without nvidiactl: {"nvidia0": 1}."""
        names = self._opened()
        return {name: names.count(name) for name in sorted(set(names) - {CONTROL})}

    def controls(self):
        """Returns how often it has nvidiactl open. Each question to the driver opens it briefly."""
        return self._opened().count(CONTROL)

    def fields(self):
        return process.status_fields(self.pid)


class Ours(Daemon):
    """Our daemon in the foreground, below a root of links, or at the real paths if root is "". end() ends it."""

    def __init__(self, program, root, runtime_directory, folder, *options):
        configuration = folder / "empty.conf"  # the machine's own configuration is not under trial
        configuration.touch()
        notifications = events.Datagrams("notifications", folder / f"notify.{os.urandom(4).hex()}")
        command = [str(program), *(["--root", str(root)] if root else []), "--foreground", "--verbose",
                   "--config", str(configuration), *options]
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "JOURNAL_STREAM")}
        begin = time.monotonic()
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/",
                                      stderr=subprocess.PIPE,
                                      env=environment | {"NOTIFY_SOCKET": str(notifications.path)})
        super().__init__(runtime_directory, self.child.pid)
        self.log = events.Lines("the daemon's log", self.child.stderr)
        try:
            events.wait_until(lambda: notifications.has("^READY=1$") or not self.is_running(), "READY=1", READY_SEC)
        except AssertionError:
            self.end()
        finally:
            notifications.close()
        if not self.is_running():
            self.log.wait_end(5)
            raise Failed(f"{' '.join(command)} was not ready within {READY_SEC} s, or ended by itself (status "
                         f"{self.child.returncode}); its log: {self.log.text()}")
        self.ready_sec = time.monotonic() - begin

    def is_running(self):
        return self.child.poll() is None

    def stop(self):
        """Sends SIGTERM; returns exit status and seconds."""
        begin = time.monotonic()
        self.child.terminate()
        try:
            status = self.child.wait(STOP_SEC)
        except subprocess.TimeoutExpired:
            raise Failed(f"it has not ended {STOP_SEC} s after SIGTERM; its log: {self.log.text()[-500:]}") from None
        return status, time.monotonic() - begin

    def end(self):
        """Ends the daemon, if necessary with SIGKILL. Fails if it is stuck in the driver."""
        for ask in (self.child.terminate, self.child.kill):
            if self.is_running():
                ask()
                try:
                    self.child.wait(STOP_SEC)
                except subprocess.TimeoutExpired:
                    continue
        if self.is_running():
            raise Failed(f"process {self.pid} outlives SIGKILL: it is stuck in the driver")
        self.log.wait_end(5)
        return f"process {self.pid} has ended with status {self.child.returncode}"


def is_nvidias(program):
    """Whether the program is NVIDIA's daemon, and not ours under its name."""
    done = subprocess.run([program, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
                          check=False)
    return not re.search("--keeper", done.stdout + done.stderr)


class Theirs(Daemon):
    """NVIDIA's daemon at the real paths, the only ones that it supports. Its pid file has its pid."""

    def __init__(self, program, runtime_directory):
        done = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=READY_SEC,
                              check=False)
        try:
            pid = int((runtime_directory / "nvidia-persistenced.pid").read_text())
        except (OSError, ValueError):
            raise NotPossible(f"{program} does not start here (status {done.returncode}): "
                              f"{(done.stderr or done.stdout).strip()[:300]}") from None
        super().__init__(runtime_directory, pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not process.wait_gone(self.pid, 0):
            os.kill(self.pid, signal.SIGTERM)
        if not process.wait_gone(self.pid, STOP_SEC):
            raise Failed(f"NVIDIA's daemon (process {self.pid}) has not ended {STOP_SEC} s after SIGTERM")
        with contextlib.suppress(ChildProcessError):  # it may be a child of process 1 instead
            os.waitpid(self.pid, 0)
