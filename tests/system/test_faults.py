# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""One fault in each of many lives of a daemon: the n-th allocation or the n-th system call fails.

A life is: start, hold, Set, lease, reload, stop. With the fault, the daemon either continues, perhaps with less, or it does
not start and says why. It never reports a GPU as held that it does not hold.

    HOLDFAST_FAULTS=all     test every n (make faults); otherwise 25 values of n
"""

import collections
import contextlib
import os
import re
import signal
import struct

import pytest

from harness import holdfast_rpc, process, rpc
from harness.daemon import STOP_LIMIT_SEC, ForegroundDaemon, return_of_command
from harness.events import wait_until

pytestmark = [
    pytest.mark.holdfast_only("the faults are in our daemon's calls"),
    pytest.mark.parametrize("backend", ["kernel"]),
    pytest.mark.timeout(4 * 3600 if os.environ.get("HOLDFAST_FAULTS") == "all" else 300),
]

TRIES = None if os.environ.get("HOLDFAST_FAULTS") == "all" else 25

# The message of a process that fails at its start contains one of these, and then the reason.
WHY = r"cannot |failed|no memory|stop it first|refusing to run"

# A sanitizer aborts if its own allocation fails, for example for a new thread. That is no fault of the daemon.
SANITIZER_GAVE_UP = r"Sanitizer: CHECK failed"

# After a failure of one of these calls the daemon may leave its files: it could not remove them, or it could not lock the pid
# file, which then may be another daemon's. The next start takes them over.
MAY_STAY = re.compile("unlink|fcntl")


class Allocations:
    """Lets the n-th allocation fail (tests/faults/failing_malloc.c)."""

    def __init__(self, site, report):
        self._report = report
        self._library = site.build / "tests/faults/failing-malloc.so"
        assert self._library.exists(), f"{self._library} is not built"

    def prefix(self, n):
        self._report.unlink(missing_ok=True)
        environment = process.SANITIZER_BEHIND_PRELOAD | {
            "LD_PRELOAD": self._library, "HOLDFAST_FAIL_ALLOCATION": n, "HOLDFAST_ALLOCATION_REPORT": self._report,
        }
        return ["env", *(f"{name}={value}" for name, value in environment.items())]

    def report(self):
        """Returns how many allocations there were, and what failed."""
        return struct.unpack("@L", self._report.read_bytes())[0], "an allocation"


class SystemCalls:
    """Lets the n-th system call fail, or kills the process there (tests/faults/fail_syscall.c)."""

    def __init__(self, site, report, how="fail"):
        self._report = report
        program = site.build / "tests/faults/fail-syscall"
        if not program.exists():
            pytest.skip(f"{program} is missing: it needs libseccomp at build time")
        # Leave out a sanitizer's own mappings, since it aborts without them.
        sanitized = b"__asan_init" in site.program.read_bytes()
        self._command = [str(program), how], ["mmap,mprotect" if sanitized else "-", str(report)]

    def prefix(self, n):
        self._report.unlink(missing_ok=True)
        return [*self._command[0], str(n), *self._command[1]]

    def report(self):
        wait_until(self._report.exists, "fail-syscall has written its report", timeout=20)
        count, failed = self._report.read_text().strip().split(" ", 1)
        return int(count), failed


# ---- one life


def ask(path, method, *arguments):
    """Calls, and tries once more if the daemon hangs up or rejects the call for lack of memory. A missing answer is a failure.
    """
    for last in (False, True):
        try:
            with holdfast_rpc.Connection(path, 10) as connection:
                return getattr(connection, method)(*arguments)
        except TimeoutError:
            raise AssertionError(f"{method} was not answered") from None
        except (AssertionError, OSError, EOFError) as error:
            if last:
                raise AssertionError(f"{method} failed twice: {error}") from None


class Life:
    """One process with one fault, from start to stop. Each step ends in the state in which the next step begins."""

    def __init__(self, world, prefix=()):
        self.world = world
        self.daemon = ForegroundDaemon(world.site, "--verbose", prefix=prefix)

    def ask(self, method, *arguments):
        return ask(self.daemon.socket_path, method, *arguments)

    def list(self):
        """Returns the daemon's list, after checking it against the simulator."""
        gpus = self.ask("list")["gpus"]
        for gpu in gpus:
            if gpu["state"] == holdfast_rpc.HELD:
                assert self.holds(gpu["address"]), f"the daemon reports {gpu['address']} as held, but has not opened it"
        return gpus

    def holders(self, address):
        return [handle["pid"] for handle in self.world.sim.gpu(address)["handles"] if handle["node"] == "gpu"]

    def holds(self, address):
        """Whether the daemon has the GPU open. It may have the descriptor from the keeper, so the opener does not matter."""
        return f"nvidia{self.world.sim.gpu(address)['minor']}" in self.daemon.open_nodes()

    def wait_released(self, addresses):
        """The daemon answers after close(2), but the simulator may learn of the close from FUSE a moment later."""
        wait_until(lambda: not any(self.holders(address) for address in addresses),
                   "the GPUs are released", timeout=20)

    def is_gone(self):
        return process.wait_gone(self.daemon.pid, 0)

    def all_are(self, state):
        gpus = self.list()
        return len(gpus) == len(self.world.gpus) and all(gpu["state"] == state for gpu in gpus)

    def is_up(self):
        """Whether the daemon serves and holds every GPU, or has just ended. Before its socket exists, it is not up."""
        try:
            holdfast_rpc.Connection(self.daemon.socket_path, 10).close()
        except OSError:
            return False
        try:
            return self.all_are(holdfast_rpc.HELD)
        except AssertionError:
            if process.wait_gone(self.daemon.pid, 1):
                return True
            raise

    def start(self):
        """Returns True if the daemon runs and holds all GPUs, False if it has ended."""
        wait_until(lambda: self.is_gone() or self.is_up(), "the daemon has started, or has ended", timeout=30)
        return not self.is_gone()

    def switch(self):
        """Sets a GPU off and on again."""
        address = self.world.gpus[0]
        wait_until(lambda: self.ask("set_only", address, rpc.DISABLED) == rpc.SUCCESS, "a Set to disabled succeeds")
        assert self.ask("get", address) == (rpc.SUCCESS, rpc.DISABLED)
        self.wait_released([address])
        wait_until(lambda: self.ask("set_only", address, rpc.ENABLED) == rpc.SUCCESS, "a Set to enabled succeeds", timeout=10)
        assert self.all_are(holdfast_rpc.HELD)

    def lease(self):
        """During the lease no GPU is held; afterwards all are."""
        for _ in range(2):
            try:
                with holdfast_rpc.Connection(self.daemon.socket_path, 10) as connection:
                    if connection.release() == rpc.SUCCESS:
                        self.wait_released(self.world.gpus)
                        break
            except TimeoutError:
                raise AssertionError("Release was not answered") from None
            except (ConnectionError, EOFError):  # tolerated once
                pass
        else:
            raise AssertionError("the daemon granted no lease")
        wait_until(lambda: self.all_are(holdfast_rpc.HELD), "all GPUs are held after the lease", timeout=20)

    def reload(self):
        """The daemon reports the reload in its log and to the service manager. The fault may hit one of the two."""
        os.kill(self.daemon.pid, signal.SIGHUP)
        wait_until(lambda: self.daemon.log.has("Configuration read again|the current configuration stays in effect")
                   or self.daemon.notifications.has("RELOADING=1") or self.is_gone(), "the daemon has reloaded")
        wait_until(lambda: self.all_are(holdfast_rpc.HELD), "all GPUs are held after the reload", timeout=20)

    def descriptors(self):
        """Counts the daemon's open descriptors by kind."""
        targets = process.open_files(self.daemon.pid).values()
        return collections.Counter(re.sub(r"\d+", "", target) for target in targets)

    def stop(self):
        self.daemon.stop()
        assert self.daemon.status == 0, f"the daemon's exit status is {self.daemon.status}"

    def live(self):
        """Runs all steps but the stop. Returns the open descriptors, or None if the daemon did not start."""
        if not self.start():
            return None
        for step in (self.list, self.switch, self.lease, self.reload):
            step()
        return self.descriptors()


def check_failed_start(life, failed):
    """Checks the exit status and the message, unless the fault was in writing that message."""
    life.daemon.wait_exit()
    assert not life.daemon.log.has("^Ready: "), f"the daemon exited with {life.daemon.status} after its start"
    # 4: a permission is missing, for example because a call that changes the process's privileges failed.
    assert life.daemon.status in (1, 4), f"the daemon exited with {life.daemon.status} during its start"
    assert failed.startswith("write") or life.daemon.log.has(WHY), "the daemon does not say why it does not start"


def check_nothing_is_left(life, failed):
    site = life.world.site
    wait_until(lambda: not any(life.holders(address) for address in life.world.gpus), "all GPUs are released")
    left = [path.name for path in (site.socket_path, site.pid_file) if path.exists()]
    assert not left or MAY_STAY.match(failed), f"left behind: {left}"
    for path in (site.socket_path, site.pid_file):
        path.unlink(missing_ok=True)


# ---- many lives


GOES_ON, NO_START, TAKEN_OVER = "went on", "did not start", "taken over by the next daemon"


def try_all(fault, one, record_property):
    """Calls one(n), which returns the outcome and the error, if any; with n = 0 there is no fault.

    The counts go into the JUnit report, for docs/reliability.md.
    """
    _, wrong = one(0)
    assert not wrong, wrong
    count, _ = fault.report()
    assert count > 100, f"only {count} calls were counted, so nothing was tested"
    outcomes, faults = collections.Counter(), []
    for n in range(1, count + 1, max(1, count // TRIES) if TRIES else 1):
        outcome, wrong = one(n)
        outcomes[outcome] += 1
        faults += [wrong] if wrong else []
    told = ", ".join(f"{times} {outcome}" for outcome, times in sorted(outcomes.items()))
    record_property("faults", f"{sum(outcomes.values())} of {count}: {told}")
    assert not faults, f"{len(faults)} of {sum(outcomes.values())}:\n" + "\n".join(faults)


def described(n, failed, wrong, log):
    return f"{n} ({failed}): {wrong}\n" + "".join(f"    {line}\n" for line in log.splitlines())


def live_with(world, fault, n, rest=None):
    """Runs one life with the n-th fault. rest: the descriptors of a life without a fault.

    Returns the descriptors before the stop (None: the daemon did not start), and the error, if any.
    """
    life = Life(world, fault.prefix(n))
    now = wrong = None
    try:
        now = life.live()
        if now is not None:
            wait_until(lambda: rest is None or not life.descriptors() - rest,
                       f"no more descriptors than in a life without a fault: {now}")
            life.stop()
    except (AssertionError, OSError) as error:  # OSError: the process has ended
        wrong = error
    if not life.is_gone():
        process.kill_and_reap(life.daemon.pid)
        life.daemon.status = -signal.SIGKILL
        world.site.end_keepers()
    try:
        _, failed = fault.report()
    except AssertionError as error:  # the report comes when the last process has ended: perhaps a keeper still runs
        world.site.end_keepers()
        return now, described(n, "no report", wrong or error, life.daemon.log.text())
    try:
        if wrong:
            raise wrong
        if now is None:
            check_failed_start(life, failed)
        life.daemon.clean_up()
        check_nothing_is_left(life, failed)
    except (AssertionError, OSError) as error:
        gave_up = life.daemon.log.has(SANITIZER_GAVE_UP)
        wrong = None if gave_up else described(n, failed, error, life.daemon.log.text())
    return now, wrong


def try_lives(world, fault, record_property):
    rest = None

    def one(n):
        nonlocal rest
        now, wrong = live_with(world, fault, n, rest)
        rest = now if n == 0 else rest
        return NO_START if now is None else GOES_ON, wrong
    try_all(fault, one, record_property)


def test_whichever_allocation_fails_the_daemon_continues_or_says_why_it_does_not_start(world, record_property):
    try_lives(world, Allocations(world.site, world.base / "allocations"), record_property)


def test_whichever_system_call_fails_the_daemon_continues_or_says_why_it_does_not_start(world, record_property):
    try_lives(world, SystemCalls(world.site, world.base / "calls"), record_property)


def check_background(world, status):
    """Checks that the exit status is right. Returns whether the daemon ran; it is stopped then."""
    # After a failed start the daemon may need some time to exit.
    running = [pid for pid in process.daemons() if not process.wait_gone(pid, 0 if status == 0 else 5)]
    assert status is not None, "the command does not return"
    assert bool(running) == (status == 0), f"the command exits with {status}, and {len(running)} daemons run"
    for pid in running:
        assert ask(world.site.socket_path, "get", world.gpus[0])[0] == rpc.SUCCESS
        os.kill(pid, signal.SIGTERM)
        assert process.reap(pid, STOP_LIMIT_SEC) == 0
    return bool(running)


def start_in_background(world, fault, n):
    errors = world.base / "errors"
    with errors.open("wb") as file:
        status = return_of_command(world.site, 30, prefix=fault.prefix(n), errors=file)
    runs = wrong = None
    try:
        runs = check_background(world, status)
    except AssertionError as error:
        wrong = error
    for pid in process.daemons():
        process.kill_and_reap(pid)
    world.site.end_keepers()
    (_, failed), said = fault.report(), errors.read_text()
    if not wrong and not runs and not failed.startswith("write") and not re.search(WHY, said):
        wrong = "the command does not say why the daemon does not start"
    return GOES_ON if runs else NO_START, wrong and described(n, failed, wrong, said)


def test_whichever_system_call_fails_in_the_background_the_exit_status_is_right(world, record_property):
    fault = SystemCalls(world.site, world.base / "calls")
    try_all(fault, lambda n: start_in_background(world, fault, n), record_property)


def kill_and_start_again(world, fault, n):
    killed, wrong = Life(world, fault.prefix(n)), None
    # The kill makes any step fail. The socket may be missing, since a keeper without GPUs removes it at once.
    with contextlib.suppress(AssertionError, FileNotFoundError):
        killed.live()
    process.kill_and_reap(killed.daemon.pid)
    killed.daemon.status = -signal.SIGKILL
    successor = Life(world)
    try:
        killed.daemon.clean_up()
        assert successor.start(), "the next daemon does not start"
        wait_until(lambda: all(len(successor.holders(address)) == 1 and successor.holds(address) for address in world.gpus),
                   "the next daemon holds every GPU, and nobody else does")
        successor.stop()
        successor.daemon.clean_up()
        check_nothing_is_left(successor, "nothing")
    except AssertionError as error:
        process.kill_and_reap(successor.daemon.pid)
        wrong = error
    world.site.end_keepers()  # fail-syscall writes its report after all its processes have ended, and keepers are among them
    _, where = fault.report()
    return TAKEN_OVER, wrong and described(n, where, wrong, successor.daemon.log.text())


def test_at_whichever_system_call_the_daemon_is_killed_the_next_one_holds_every_gpu(world, record_property):
    fault = SystemCalls(world.site, world.base / "calls", "kill")
    try_all(fault, lambda n: kill_and_start_again(world, fault, n), record_property)
