# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Processes of the tests: found by pid, ended with a limit, and always reaped, those that forked away too."""

import ctypes
import os
import select
import signal
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
ROOT_VARIABLE = "HOLDFAST_TEST_ROOT"  # in the environment of a test's daemons: below which root they are
NOBODY = 65534

# A sanitizer's finding must not pass as an ordinary exit status, nor be lost in a log that no test reads.
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
}
# With a library of ours preloaded, which calls the sanitizer's functions and so comes before it: that is no mistake.
SANITIZER_BEHIND_PRELOAD = {
    "ASAN_OPTIONS": f"{SANITIZER_ENVIRONMENT['ASAN_OPTIONS']}:verify_asan_link_order=0",
}
# ThreadSanitizer's options, and where it reports, are of the whole run (scripts/tsan).
SANITIZER_FINDING = r"ERROR: (Address|Leak)Sanitizer|ThreadSanitizer|runtime error:"


def adopt_orphans():
    """A daemon that forks leaves its parent: from now on it becomes our child, so that we see how it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def wait_gone(pid, timeout):
    """Whether the process (a child of ours or not) ended within the time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(pidfd)


def reap(pid, timeout):
    """The exit status of a child as subprocess has it (negative: the signal). Fails when it does not end in time."""
    assert wait_gone(pid, timeout), f"process {pid} did not end within {timeout} s"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_and_reap(pid, timeout=5):
    """Returns whether it is gone. A process with a thread in the driver outlives even SIGKILL until the driver answers."""
    try:
        os.kill(pid, signal.SIGKILL)
        if not wait_gone(pid, timeout):
            return False
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    return True


def status_fields(pid):
    """/proc/PID/status as a dictionary."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict((part.strip() for part in line.split(":", 1)) for line in lines)


def thread_fields(pid):
    """status_fields() of each thread. One that ends while we look is left out."""
    found = []
    for entry in Path(f"/proc/{pid}/task").iterdir():
        try:
            found.append(status_fields(f"{pid}/task/{entry.name}"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def open_files(pid):
    """What the process has open: {descriptor: target}. One that is closed while we look is left out."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def keepers(root):
    """Pids of the keepers of daemons below this root. They have the daemons' environment, but no loop of libevent's."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{ROOT_VARIABLE}={root}" not in (entry / "environ").read_text(errors="replace").split("\0"):
                continue
            targets = set(open_files(entry.name).values())
        except OSError:  # it has gone, or it is not ours to look into
            continue
        if "anon_inode:[signalfd]" in targets and "anon_inode:[eventpoll]" not in targets:
            found.append(int(entry.name))
    return found


def cpu_seconds(pid):
    """User and system time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid="self"):
    """Pids of all processes whose parent that process is (we are), adopted ones too."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # that thread has just ended
            continue
    return found


def daemons():
    """The children of ours, adopted ones too, that are persistence daemons, of whomever."""
    named = [pid for pid in children() if Path(f"/proc/{pid}/comm").read_text().startswith("nvidia-persi")]
    return [pid for pid in named if "anon_inode:[signalfd]" not in open_files(pid).values()]  # a keeper's


def assert_childless(timeout=5):
    """A test leaves no process behind, not even one that forked away from it. What ends by itself in time is reaped."""
    left = []
    for pid in children():
        if wait_gone(pid, timeout):
            os.waitpid(pid, 0)
        else:
            left.append(f"{pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})")
            kill_and_reap(pid)
    assert not left, f"processes left behind: {', '.join(left)}"
