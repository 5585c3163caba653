# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The daemon under test: how it is started, what it says, how it ends.

Ours runs below a root of the test's own. Another one (HOLDFAST_TEST_DAEMON) knows no root, so it gets a machine of its
own (harness/machine.py), and it reaches the simulated GPUs through the shim library; it always forks.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from . import events, process, rpc
from .machine import Machine

STOP_LIMIT_SEC = 5  # what others wait for after SIGTERM (docs/protocol.md)


def other_daemon():
    """The daemon that the suite is pointed at, or None for ours."""
    path = os.environ.get("HOLDFAST_TEST_DAEMON")
    return Path(path) if path else None


class Site:
    """Where a daemon lives in one test: its root, the backend, what goes before its command line."""

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
        """The whole command line; options of the test's come last, so that they can override."""
        where = [] if self.other else ["--root", str(self.root)]
        if self.backend == "nvidia-cfg":
            where += [] if self.other else ["--backend", "nvidia-cfg"]
            where += ["--nvidia-cfg-path", str(self.build / "sim/nvidia-cfg")]
        return [str(self.program), *where, *options]

    def keepers(self):
        """The keepers that daemons here have forked: one, unless something is wrong."""
        return process.keepers(self.root)

    def kept(self):
        """What the keeper has: names of nodes, sorted, one for each descriptor."""
        targets = [target for pid in self.keepers() for target in process.open_files(pid).values()]
        return sorted(Path(target).name for target in targets if "/dev/nvidia" in target)

    def end_keepers(self):
        """What a daemon that was killed has left behind."""
        for pid in self.keepers():
            os.kill(pid, signal.SIGTERM)
            process.wait_gone(pid, STOP_LIMIT_SEC)

    def pid_in_file(self):
        text = self.pid_file.read_text()
        assert text.endswith("\n"), f"{self.pid_file} holds {text!r}"
        return int(text)


class Daemon:
    """What both kinds of start have in common: a pid, a socket, an end."""

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
        """One query on a connection of its own, as NVML does it."""
        with self.connect() as connection:
            return connection.get(address)

    def set(self, address, mode, timeout=5):
        """SetPersistenceMode, as nvidia-smi -pm does it."""
        with self.connect(timeout) as connection:
            return connection.set(address, mode)

    def set_only(self, address, mode, timeout=5):
        """SetPersistenceModeOnly, which leaves NUMA memory alone."""
        with self.connect(timeout) as connection:
            return connection.set_only(address, mode)

    def call_as_nobody(self, method, *arguments):
        """The same call by a child with another uid; gives what it printed."""
        return self.eval_as_nobody(f"{method}({', '.join(map(repr, arguments))})")

    def eval_as_nobody(self, expression):
        """Connection.EXPRESSION in a child with another uid (the kernel tells the daemon who connected)."""
        source = Path(rpc.__file__).read_text()
        command = [sys.executable, "-I", "-c", source, str(self.socket_path), expression]
        done = subprocess.run(command, user=process.NOBODY, group=process.NOBODY, extra_groups=[], cwd="/",
                              capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def open_nodes(self):
        """Which GPU nodes the daemon's own process has open."""
        names = [Path(target).name for target in process.open_files(self.pid).values() if "/dev/nvidia" in target]
        return sorted(name for name in names if name.removeprefix("nvidia").isdecimal())

    @property
    def is_running(self):
        return self.status is None and not process.wait_gone(self.pid, 0)

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)

    def stop(self, timeout=STOP_LIMIT_SEC):
        """SIGTERM; its exit status, which comes within the limit."""
        if self.status is None:
            self.terminate()
            self.status = process.reap(self.pid, timeout)
        return self.status

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.status = process.reap(self.pid, 10)

    def clean_up(self):
        """The end of a test that did not end it: still by SIGTERM, and still within the limit."""
        try:
            if self.status is None:
                assert self.stop() in (0, -signal.SIGTERM), "the daemon did not end well"
        finally:
            if self.status is None and not process.kill_and_reap(self.pid):
                raise AssertionError(f"process {self.pid} does not end: it has a thread in the driver")
            self.check_log()

    def check_log(self):
        raise NotImplementedError


class ForegroundDaemon(Daemon):
    """Ours with --foreground: logs to standard error, and says when it is ready as systemd wants it.

    prefix goes before its command line (prlimit, strace, ...) and must end in an exec; foreground=False leaves the option
    out, for NOTIFY_SOCKET alone must do.
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
        """Until READY=1: every GPU was attempted. A daemon that ends instead says why in its log."""
        try:
            self.notifications.wait_for("^READY=1$", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\nand its log:\n{self.log.text()}") from None

    def wait_socket(self, timeout=10):
        """Until it serves, which is before the GPUs are open."""
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
        # Popen would wait for a child that is already reaped.
        self._process.returncode = self.status


class ForkingDaemon(Daemon):
    """Either daemon as a unit of Type=forking starts it: the command returns, the daemon's pid is in its file.

    how: see run_command.
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
    """Runs the daemon's command to its return, with what it printed. A daemon that it leaves behind must not keep the
    pipes: this fails then, as a shell's $(...) would hang."""
    return subprocess.run([*site.machine.prefix, *prefix, *site.command(*options)], env=site.environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
                          cwd="/")


def return_of_command(site, limit_sec, *, prefix=(), errors=subprocess.DEVNULL):
    """Runs the daemon's command to its return; its exit status, or None when it does not return in time, and is killed.
    What it leaves in the background is nobody's to wait for: that may be what hangs."""
    command = subprocess.Popen([*site.machine.prefix, *prefix, *site.command()], env=site.environment, cwd="/",
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
    returned = process.wait_gone(command.pid, limit_sec)
    if not returned:
        command.kill()
    status = command.wait()
    return status if returned else None
