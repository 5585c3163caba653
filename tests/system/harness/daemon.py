# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Starts and stops the daemon under test, and reads its log.

Ours runs with --root, below a folder that belongs to the test. Another daemon (HOLDFAST_TEST_DAEMON) has no such option.
So it runs in its own mount namespace (harness/machine.py), reaches the simulated GPUs through the shim library, and always
forks.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from . import events, process, rpc
from .machine import Machine

STOP_LIMIT_SEC = 5  # the daemon exits within this time after SIGTERM (docs/compatibility.md)


def other_daemon():
    """The program that HOLDFAST_TEST_DAEMON names, or None for ours."""
    path = os.environ.get("HOLDFAST_TEST_DAEMON")
    return Path(path) if path else None


class Site:
    """Where the daemons of one test run: their paths, backend, environment and command line."""

    def __init__(self, build, base, backend, simulator_socket):
        self.build = build
        self.base = base
        self.root = base / "root"
        self.backend = backend
        self.other = other_daemon()
        self.machine = Machine(base, with_driver=bool(self.other))
        self.environment = os.environ | process.SANITIZER_ENVIRONMENT
        for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "HOLDFAST_ROOT", "JOURNAL_STREAM"):
            self.environment.pop(name, None)
        self.environment[process.ROOT_VARIABLE] = str(self.root)
        if simulator_socket:
            self.environment["HOLDFAST_SIM_SOCKET"] = str(simulator_socket)

    @property
    def program(self):
        return self.other or self.build / "src/daemon/nvidia-persistenced"

    @property
    def runtime_directory(self):
        return self.machine.run / "nvidia-persistenced" if self.other else self.root / "run/nvidia-persistenced"

    @property
    def socket_path(self):
        return self.runtime_directory / "socket"

    @property
    def pid_file(self):
        return self.runtime_directory / "nvidia-persistenced.pid"

    def command(self, *options):
        """The whole command line. The test's options come last, so that they override the others."""
        where = [] if self.other else ["--root", str(self.root)]
        if self.backend == "nvidia-cfg":
            where += [] if self.other else ["--backend", "nvidia-cfg"]
            where += ["--nvidia-cfg-path", str(self.build / "sim/nvidia-cfg")]
        return [str(self.program), *where, *options]

    def keepers(self):
        """The pids of the keepers that this test's daemons have forked: one, unless there is a fault."""
        return process.keepers(self.root)

    def kept(self):
        """The sorted names of the device nodes that the keeper has open, one for each descriptor."""
        targets = [target for pid in self.keepers() for target in process.open_files(pid).values()]
        return sorted(Path(target).name for target in targets if "/dev/nvidia" in target)

    def end_keepers(self):
        """Ends the keepers that killed daemons have left behind."""
        for pid in self.keepers():
            os.kill(pid, signal.SIGTERM)
            process.wait_gone(pid, STOP_LIMIT_SEC)

    def pid_in_file(self):
        text = self.pid_file.read_text()
        assert text.endswith("\n"), f"{self.pid_file} holds {text!r}"
        return int(text)


class Daemon:
    """A running daemon, however it was started."""

    def __init__(self, site, pid):
        self.site = site
        self.pid = pid
        self.status = None

    @property
    def socket_path(self):
        return self.site.socket_path

    @property
    def pid_file(self):
        return self.site.pid_file

    def connect(self, timeout=5):
        return rpc.Connection(self.socket_path, timeout)

    def get(self, address):
        """Queries on a new connection, as NVML does."""
        with self.connect() as connection:
            return connection.get(address)

    def set(self, address, mode, timeout=5):
        """Calls SetPersistenceMode, as nvidia-smi -pm does."""
        with self.connect(timeout) as connection:
            return connection.set(address, mode)

    def set_only(self, address, mode, timeout=5):
        """Calls SetPersistenceModeOnly, which does not change NUMA memory."""
        with self.connect(timeout) as connection:
            return connection.set_only(address, mode)

    def call_as_nobody(self, method, *arguments):
        """Makes the call from a child process with another uid. Returns the text of the result."""
        return self.eval_as_nobody(f"{method}({', '.join(map(repr, arguments))})")

    def eval_as_nobody(self, expression):
        """Evaluates Connection.EXPRESSION in a child with another uid, which the daemon learns from the kernel."""
        source = Path(rpc.__file__).read_text()
        command = [sys.executable, "-I", "-c", source, str(self.socket_path), expression]
        done = subprocess.run(command, user=process.NOBODY, group=process.NOBODY, extra_groups=[], cwd="/",
                              capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def open_nodes(self):
        """The sorted names of the GPU nodes that the daemon's process has open. The keeper's are not among them."""
        names = [Path(target).name for target in process.open_files(self.pid).values() if "/dev/nvidia" in target]
        return sorted(name for name in names if name.removeprefix("nvidia").isdecimal())

    @property
    def is_running(self):
        return self.status is None and not process.wait_gone(self.pid, 0)

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)

    def stop(self, timeout=STOP_LIMIT_SEC):
        """Sends SIGTERM and returns the exit status. Fails if the daemon does not end in time."""
        if self.status is None:
            self.terminate()
            self.status = process.reap(self.pid, timeout)
        return self.status

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.status = process.reap(self.pid, 10)

    def clean_up(self):
        """Stops a daemon that the test has not stopped, and checks that it also ends in time."""
        try:
            if self.status is None:
                assert self.stop() in (0, -signal.SIGTERM), f"the daemon's exit status is {self.status}"
        finally:
            if self.status is None and not process.kill_and_reap(self.pid):
                raise AssertionError(f"process {self.pid} does not end: one of its threads hangs in the driver")
            self.check_log()

    def check_log(self):
        raise NotImplementedError


class ForegroundDaemon(Daemon):
    """Our daemon with --foreground. It logs to standard error, and reports READY=1 to a NOTIFY_SOCKET.

    prefix: a command that executes the daemon's command line (prlimit, strace, ...). foreground=False: leave the option out,
    because NOTIFY_SOCKET alone also keeps the daemon in the foreground.
    """

    def __init__(self, site, *options, prefix=(), foreground=True):
        self.notifications = events.Datagrams("notifications", site.base / f"notify.{os.urandom(4).hex()}")
        environment = site.environment | {"NOTIFY_SOCKET": str(self.notifications.path)}
        command = [*prefix, *site.command(*(["--foreground"] if foreground else []), *options)]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
        super().__init__(site, self._process.pid)
        self.log = events.Lines("the daemon's log", self._process.stderr)

    def wait_ready(self, timeout=20):
        """Waits for READY=1, which the daemon sends once it has tried to open each GPU."""
        try:
            self.notifications.wait_for("^READY=1$", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\nThe daemon's log:\n{self.log.text()}") from None

    def wait_socket(self, timeout=10):
        """Waits until the daemon serves clients, which it does before the GPUs are open."""
        self.log.wait_for("Local RPC services initialized", timeout)

    def wait_for_log(self, pattern, timeout=5):
        return self.log.wait_for(pattern, timeout)

    def wait_exit(self, timeout=STOP_LIMIT_SEC):
        self.status = process.reap(self.pid, timeout)
        self.log.wait_end(5)
        return self.status

    def check_log(self):
        self.log.wait_end(5)
        self.notifications.close()
        assert not self.log.has(process.SANITIZER_FINDING), self.log.text()
        # process.reap() has reaped the child. Without this, Popen would wait for it again.
        self._process.returncode = self.status


class ForkingDaemon(Daemon):
    """Either daemon in the background, as a unit with Type=forking starts it: the command returns, and the PID file has the
    daemon's pid.

    how: see run_command().
    """

    def __init__(self, site, *options, **how):
        self.log = site.machine.log
        started = run_command(site, *options, **how)
        assert started.returncode == 0, f"exit status {started.returncode}: {started.stderr}"
        super().__init__(site, site.pid_in_file())

    def wait_for_log(self, pattern, timeout=5):
        return self.log.wait_for(pattern, timeout)

    def check_log(self):
        assert not self.log.has(process.SANITIZER_FINDING), self.log.text()


def run_command(site, *options, prefix=(), timeout=30):
    """Runs the daemon's command until it returns. Returns the exit status and the output.

    If a daemon in the background keeps the pipes open, this times out, as a shell's $(...) would hang.
    """
    return subprocess.run([*site.machine.prefix, *prefix, *site.command(*options)], env=site.environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
                          cwd="/")


def return_of_command(site, limit_sec, *, prefix=(), errors=subprocess.DEVNULL):
    """Runs the daemon's command. Returns its exit status, or kills it and returns None if it does not return in time.

    This does not wait for a daemon in the background, which may hang.
    """
    command = subprocess.Popen([*site.machine.prefix, *prefix, *site.command()], env=site.environment, cwd="/",
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
    returned = process.wait_gone(command.pid, limit_sec)
    if not returned:
        command.kill()
    status = command.wait()
    return status if returned else None
