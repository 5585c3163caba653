# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A minimal service manager that behaves like systemd towards a daemon with Type=notify.

It starts and restarts the daemon with the same notification socket and listening socket: NOTIFY_SOCKET (sd_notify(3)),
LISTEN_FDS (sd_listen_fds(3)), WATCHDOG_USEC. Its descriptor store is for what a daemon of version 0.1.0 has left there.
"""

import array
import fcntl
import itertools
import os
import signal
import socket
import subprocess

from . import events, process
from .daemon import Daemon

FIRST_FD = 3


class Store:
    """Named descriptors that the manager keeps for the next process. Several may have the same name, as in systemd."""

    def __init__(self):
        self.entries = []

    @property
    def names(self):
        return sorted(name for name, _ in self.entries)

    def add(self, name, fd):
        self.entries.append((name, fd))

    def remove(self, *names):
        for entry in [entry for entry in self.entries if entry[0] in names]:
            self.entries.remove(entry)
            os.close(entry[1])


class NotifySocket(events.Datagrams):
    """The socket for the daemon's notifications. It executes each message's requests, then passes each line to `listener`."""

    def __init__(self, path, store, listener):
        self._store = store
        self._listener = listener
        super().__init__("notifications", path)

    def receive(self):
        fds = array.array("i")
        data, control, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(16 * fds.itemsize),
                                                   socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
        lines = data.decode(errors="replace").rstrip("\n").split("\n")
        self._obey(dict(line.partition("=")[::2] for line in lines), list(fds))
        for line in lines:
            self._listener(line)
        return data

    def _obey(self, fields, fds):
        if fields.get("FDSTOREREMOVE") == "1":
            self._store.remove(fields["FDNAME"])
        for fd in fds:
            os.close(fd)


class Run(Daemon):
    """One process of the service. notifications: the lines that it sends to its manager, if it has one."""

    def __init__(self, site, command, environment, fds, notifications=None):
        self.notifications = notifications
        numbers = range(FIRST_FD, FIRST_FD + len(fds))

        def place():
            """Runs in the child: moves the descriptors to 3, 4, ..., and sets LISTEN_PID."""
            above = [fcntl.fcntl(fd, fcntl.F_DUPFD, FIRST_FD + len(fds)) for fd in fds]
            for number, fd in zip(numbers, above):
                os.dup2(fd, number)
            os.environ.clear()
            os.environ.update(environment | ({"LISTEN_PID": str(os.getpid())} if fds else {}))

        # env= cannot set LISTEN_PID, since the child has no pid yet. Popen closes the other descriptors after place().
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.PIPE, cwd="/", preexec_fn=place, pass_fds=tuple(numbers))
        super().__init__(site, self._process.pid)
        self.log = events.Lines("the daemon's log", self._process.stderr)

    def wait_ready(self, timeout=30):
        """Waits for READY=1, which the daemon sends once it has tried to open each GPU."""
        try:
            self.notifications.wait_for("^READY=1$", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\nThe daemon's log:\n{self.log.text()}") from None
        return self

    def wait_for_log(self, pattern, timeout=10):
        return self.log.wait_for(pattern, timeout)

    def wait_exit(self, timeout):
        self.status = process.reap(self.pid, timeout)
        self._process.returncode = self.status  # process.reap() has reaped the child, so Popen must not wait again
        self.log.wait_end(5)
        return self.status

    def check_log(self):
        assert not self.log.has(process.SANITIZER_FINDING), self.log.text()


class Supervisor:
    """One service, which a test can start() and end() repeatedly.

    socket_unit: the manager owns the listening socket. It is blocking, as systemd's is unless NonBlocking= is set.
    """

    def __init__(self, site, *options, socket_unit=False, watchdog_usec=0, environment=None):
        self.site = site
        self.store = Store()
        self.run = None
        self._told = events.Texts("notifications before the first process")
        self._runs = []
        self._marks = itertools.count()
        self._command = site.command(*options)
        self._socket = NotifySocket(site.base / f"notify.{os.urandom(4).hex()}", self.store, self._tell)
        self._environment = site.environment | {"NOTIFY_SOCKET": str(self._socket.path)} | (environment or {})
        if watchdog_usec:
            self._environment["WATCHDOG_USEC"] = str(watchdog_usec)
        self.listener = self._listen() if socket_unit else None

    def _listen(self):
        self.site.runtime_directory.mkdir(parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.site.socket_path))
        self.site.socket_path.chmod(0o777)
        listener.listen(4096)
        return listener

    def _tell(self, line):
        self._told.add(line)

    @property
    def kept(self):
        """The sorted names of the device nodes that the keeper has open."""
        return self.site.kept()

    def start(self, *options):
        """Starts the service. Returns the process, which is not yet ready."""
        assert self.run is None or self.run.status is not None, "the service already runs"
        named = [("holdfast.socket", self.listener.fileno())] if self.listener else []
        named += self.store.entries
        environment = dict(self._environment)
        if named:
            environment |= {"LISTEN_FDS": str(len(named)), "LISTEN_FDNAMES": ":".join(name for name, _ in named)}
        # Set this before the process starts, since it may become ready before this thread continues.
        self._told = events.Texts("this process's notifications")
        self.run = Run(self.site, [*self._command, *options], environment, [fd for _, fd in named], self._told)
        self._runs.append(self.run)
        return self.run

    def end(self, number, timeout=10):
        """Sends the signal, waits for the end, and waits until all notifications of the process have been executed."""
        os.kill(self.run.pid, number)
        return self.wait_end(timeout)

    def wait_end(self, timeout=10):
        status = self.run.wait_exit(timeout)
        mark = f"X_MARK={next(self._marks)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(mark.encode(), str(self._socket.path))
        self._socket.wait_for(f"^{mark}$")
        return status

    def restart(self, number=signal.SIGKILL):
        """Ends the process with this signal, starts the next one, and waits until it is ready."""
        self.end(number)
        return self.start().wait_ready()

    def clean_up(self):
        try:
            if self.run and self.run.status is None:
                assert self.end(signal.SIGINT) in (0, -signal.SIGTERM), f"the daemon's exit status is {self.run.status}"
        finally:
            if self.run and self.run.status is None:
                process.kill_and_reap(self.run.pid)
            self._socket.close()
            self.store.remove(*self.store.names)
            if self.listener:
                self.listener.close()
        for run in self._runs:
            run.check_log()
