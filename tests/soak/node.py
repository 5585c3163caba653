# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The node of the soak test: its actions, and the state that is expected after them.

Every action goes to the daemon or to the simulated driver, and is recorded in `Gpu`: who has the GPU open, whether it is
wanted, whether it is bound. check() compares this record with the daemon's answers, with its open files, with the
keeper's descriptors, and with the simulator's counters. No action depends on an answer of the daemon, so the same seed
gives the same actions.
"""

import collections
import contextlib
import os
import re
import signal
from pathlib import Path

from harness import holdfast_rpc, process, rpc, settings
from harness.events import wait_until

SETTLE_SEC = 90  # the daemon retries a failed open after a pause, which doubles
STOP_SEC = 20
ANSWER_SEC = 60
MEMORY_GROWTH_KB = 512  # of one process, since its first check


class Gpu:
    """The expected state of a GPU."""

    def __init__(self, address):
        self.address = address
        self.is_bound = True
        self.is_wanted = True      # according to the last Set
        self.jobs = []             # other clients that have it open
        self.n_leases = 0
        self.was_let_go = False    # since the last check: an action permitted a teardown
        self.teardowns = 0         # at the last check
        self.initialisations = 0   # when its settings were last checked

    @property
    def is_held(self):
        return self.is_bound and self.is_wanted and self.n_leases == 0


class Lease:
    def __init__(self, connection, gpus):
        self.connection = connection
        self.gpus = gpus

    def end(self):
        self.connection.close()
        for gpu in self.gpus:
            gpu.n_leases -= 1


class Node:
    def __init__(self, world, n_gpus):
        self.world = world
        self.sim = world.simulate(gpus=n_gpus)
        self.gpus = [Gpu(address) for address in world.gpus]
        self.leases = []
        self.hostile = []  # open connections of attackers
        self._memory = {}  # {pid: private memory in kB at its first check}
        self.service = world.supervise(socket_unit=True)
        self.service.start().wait_ready()
        wait_until(self._knows_legacy_flags, "the driver has answered all questions of the start", SETTLE_SEC)
        self._wait_rest()
        self.settings = settings.Service(world, settings.WANTED)
        self.n_applied = 0  # initialisations after which the settings were as wanted
        self.wait_settings()
        self._descriptors = self._other_descriptors()

    @property
    def daemon(self):
        return self.service.run

    def connect(self):
        return holdfast_rpc.Connection(self.daemon.socket_path, ANSWER_SEC)

    # ---- jobs

    def begin_job(self, gpu):
        job = contextlib.ExitStack()
        process_of_job = job.enter_context(self.sim.open_gpu(gpu.address))
        gpu.jobs.append((job, process_of_job))

    def end_job(self, gpu, *, killed=False):
        job, process_of_job = gpu.jobs.pop()
        if killed:
            process_of_job.kill()
        job.close()
        if not gpu.is_held:
            gpu.was_let_go = True

    def end_jobs(self, gpu):
        while gpu.jobs:
            self.end_job(gpu)

    # ---- orders

    def set(self, gpu, mode):
        answer = self.daemon.set(gpu.address, mode, ANSWER_SEC)
        if not gpu.is_bound:
            assert answer == rpc.DEVICE_NOT_FOUND, f"a Set on a GPU that does not exist is answered with {answer}"
            return
        gpu.is_wanted = mode == rpc.ENABLED
        gpu.was_let_go |= not gpu.is_wanted
        expected = rpc.DRIVER if gpu.is_wanted and gpu.n_leases else rpc.SUCCESS
        assert answer == expected, f"a Set of {gpu.address} to {mode} is answered with {answer}, not {expected}"

    def begin_lease(self, gpus):
        connection = self.connect()
        status = connection.release(*(gpu.address for gpu in gpus))
        if not all(gpu.is_bound for gpu in gpus):
            assert status == rpc.DEVICE_NOT_FOUND, f"a lease of a GPU that does not exist is answered with {status}"
            connection.close()
            return
        assert status == rpc.SUCCESS, f"a lease is answered with {status}"
        for gpu in gpus:
            gpu.n_leases += 1
            gpu.was_let_go = True
        self.leases.append(Lease(connection, gpus))

    def end_lease(self, at):
        self.leases.pop(at).end()

    # ---- what administrators do to GPUs

    def take_away(self, gpu, verb):
        """Unbinds or removes a GPU. The driver waits for its last user; the daemon releases it. The last Set stays in force."""
        self.end_jobs(gpu)
        self.sim.ctl(verb, gpu=gpu.address, timeout=ANSWER_SEC)
        gpu.is_bound = False
        gpu.was_let_go = True
        self._wait_known(gpu)

    def bring_back(self, gpu):
        present = self.sim.gpu(gpu.address)["present"]
        self.sim.ctl("bind" if present else "add", gpu=gpu.address)
        gpu.is_bound = True
        self._wait_known(gpu)

    def _wait_known(self, gpu):
        """Waits until the daemon has noticed the change. It learns of it after the kernel, and until then answers as before."""
        def is_known():
            with self.connect() as observer:
                return gpu.address in [listed["address"] for listed in observer.list()["gpus"]]
        wait_until(lambda: is_known() == gpu.is_bound,
                   f"the daemon knows that {gpu.address} is {'back' if gpu.is_bound else 'gone'}", ANSWER_SEC)

    def reset(self, gpu):
        """Resets a GPU under a lease, as with `holdfast release`. nvidia-smi switches the mode off during the lease only."""
        self.end_jobs(gpu)
        self.begin_lease([gpu])
        assert self.daemon.set_only(gpu.address, rpc.DISABLED, ANSWER_SEC) == rpc.SUCCESS
        # If a process ends at the same moment (one of the settings service), the simulator notices its close a little later.
        wait_until(lambda: self.sim.gpu(gpu.address)["usage_count"] == 0, "the close in the driver", ANSWER_SEC)
        self.sim.ctl("reset", gpu=gpu.address)
        self.end_lease(-1)

    def fail_once(self, gpu):
        """The next open fails. The daemon reports that, and retries without a further Set."""
        self.set(gpu, rpc.DISABLED)
        self.sim.ctl("fail", gpu=gpu.address)
        answer = self.daemon.set_only(gpu.address, rpc.ENABLED, ANSWER_SEC)
        assert answer == rpc.DRIVER, f"a Set whose open fails is answered with {answer}"
        gpu.is_wanted = True

    # ---- what happens to the daemon

    def restart(self, number):
        """Restarts the daemon: leases end, Sets are forgotten, and held GPUs stay held."""
        self.service.end(number, STOP_SEC)
        while self.leases:
            self.end_lease(-1)
        self.close_hostile()
        for gpu in self.gpus:
            gpu.is_wanted = True
        self.service.start().wait_ready(ANSWER_SEC)

    def reload(self):
        self.daemon.notifications.wait_for("^READY=1$")
        seen = len(self.daemon.notifications.all)
        os.kill(self.daemon.pid, signal.SIGHUP)
        wait_until(lambda: "READY=1" in self.daemon.notifications.all[seen:], "the reload", ANSWER_SEC)

    def keep_hostile(self, connection, limit=50):
        """Keeps an attacker's connection open, up to a limit: root may have many, and other clients need some of them."""
        self.hostile.append(connection)
        if len(self.hostile) > limit:
            self.hostile.pop(0).close()

    def close_hostile(self):
        while self.hostile:
            self.hostile.pop().close()

    # ---- checks

    def wait_settings(self):
        """Waits until each held GPU has the wanted settings."""
        def unset():
            books = {gpu["address"]: gpu for gpu in self.sim.status()["gpus"]}
            for gpu in (gpu for gpu in self.gpus if gpu.is_held):
                book = books[gpu.address]
                if not book["initialised"] or book["settings"] != settings.APPLIED:
                    return f"{gpu.address} has {book['settings']}"
                self.n_applied += book["initialisations"] > gpu.initialisations
                gpu.initialisations = book["initialisations"]
            return None
        try:
            wait_until(lambda: not unset(), "the wanted settings", SETTLE_SEC)
        except AssertionError as error:
            log = "\n".join(self.settings.log.all[-10:])
            raise AssertionError(f"{error}: {unset()}; the end of the service's log:\n{log}") from None

    def check(self):
        """Waits until the node is in the expected state; fails with the differences."""
        self.close_hostile()
        self._wait_rest()
        try:
            wait_until(lambda: not self._differences(), "the expected state", SETTLE_SEC)
        except AssertionError as error:
            raise AssertionError(f"{error}: {'; '.join(self._differences())}") from None
        self._check_books()
        self._check_descriptors()
        self._check_memory()

    def _differences(self):
        books = {gpu["address"]: gpu for gpu in self.sim.status()["gpus"]}
        kept = sorted(f"nvidia{books[gpu.address]['minor']}" for gpu in self.gpus if gpu.is_held)
        found = [difference for gpu in self.gpus for difference in self._differences_of(gpu, books[gpu.address])]
        if self.service.kept != kept:
            found.append(f"the keeper has {self.service.kept}, not {kept}")
        return found

    def _differences_of(self, gpu, book):
        expected = (rpc.SUCCESS, rpc.ENABLED if gpu.is_held else rpc.DISABLED) if gpu.is_bound else \
               (rpc.DEVICE_NOT_FOUND, None)
        users = len(gpu.jobs) + gpu.is_held
        answer = self.daemon.get(gpu.address)
        if answer != expected:
            yield f"the daemon answers {answer} for {gpu.address}, not {expected}"
        if book["usage_count"] != users:
            yield f"{gpu.address} has {book['usage_count']} users, not {users}: {book['handles']}"
        if book["bound"] != gpu.is_bound:
            yield f"{gpu.address} is {'' if book['bound'] else 'not '}bound"

    def _check_books(self):
        """No GPU was torn down without a reason. Restarts and attacks are no reason."""
        status = self.sim.status()
        assert not status["unknown_ioctls"], f"ioctls that the driver does not have: {status['unknown_ioctls']}"
        faults = [note for note in self.sim.journal("note") if "FAULT" in str(note)]
        assert not faults, faults
        for gpu, book in zip(self.gpus, status["gpus"]):
            up = book["initialisations"] - book["teardowns"]
            assert up == book["initialised"], f"the counters of {gpu.address} disagree: {book}"
            new = book["teardowns"] - gpu.teardowns
            assert gpu.was_let_go or new == 0, f"{gpu.address} was torn down {new} times without a reason"
            gpu.teardowns, gpu.was_let_go = book["teardowns"], not gpu.is_held

    def _knows_legacy_flags(self):
        with self.connect() as observer:
            return all(gpu["legacy_flag"] != holdfast_rpc.UNKNOWN for gpu in observer.list()["gpus"])

    def _wait_rest(self):
        """Waits until the daemon runs no job: a job may have a descriptor open."""
        at_rest = 2 if self._has_library("libtsan") else 1  # ThreadSanitizer has a thread of its own
        wait_until(lambda: len(self._threads_of_work()) == at_rest, "the end of the daemon's jobs", SETTLE_SEC)

    def _has_library(self, pattern):
        return re.search(pattern, Path(f"/proc/{self.daemon.pid}/maps").read_text())

    def _threads_of_work(self):
        """Returns the threads of the loop and of jobs, without the permanent ones that write the log and close sockets."""
        names = [fields["Name"] for fields in process.thread_fields(self.daemon.pid)]
        return [name for name in names if name not in ("log", "closer")]

    def _other_descriptors(self):
        """Returns the daemon's open files except GPUs. Numbers in their names are replaced, since they differ each time."""
        return collections.Counter(re.sub(r"\d+", "N", target)
                                   for target in process.open_files(self.daemon.pid).values()
                                   if not re.search(r"/dev/nvidia\d", target))

    def _check_descriptors(self):
        held = sorted(f"nvidia{self.sim.gpu(gpu.address)['minor']}" for gpu in self.gpus if gpu.is_held)
        assert self.daemon.open_nodes() == held, f"the daemon has {self.daemon.open_nodes()} open, not {held}"
        wanted = self._descriptors + collections.Counter({"socket:[N]": len(self.leases)})
        if not held:  # then it has no file of the driver open, so the driver can be unloaded
            wanted = collections.Counter({target: n for target, n in wanted.items() if "nvidiactl" not in target})
        try:
            wait_until(lambda: self._other_descriptors() == wanted, "the same other descriptors as at the start")
        except AssertionError as error:
            now = self._other_descriptors()
            raise AssertionError(f"{error}: too many {dict(now - wanted)}, missing {dict(wanted - now)}") from None

    def _check_memory(self):
        pid = self.daemon.pid
        if self._has_library("lib[at]san"):
            return  # sanitizers keep freed memory on purpose; asan checks for leaks at the end of each process
        fields = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
        now = next(int(field[1]) for field in fields if field[0] == "Private_Dirty:")
        first = self._memory.setdefault(pid, now)
        assert now - first <= MEMORY_GROWTH_KB, f"the daemon has grown from {first} to {now} kB"

    def leave(self):
        """Ends all clients."""
        for gpu in self.gpus:
            self.end_jobs(gpu)
        while self.leases:
            self.end_lease(-1)
        self.close_hostile()

    def check_last(self):
        """Ends all clients and brings every GPU back. The node must then be as at the start."""
        self.leave()
        for gpu in self.gpus:
            if not gpu.is_bound:
                self.bring_back(gpu)
        self.check()
