# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Finds processes, ends them with a time limit, and reaps them, including daemons that forked into the background."""

import contextlib
import ctypes
import os
import select
import signal
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
ROOT_VARIABLE = "HOLDFAST_TEST_ROOT"  # in the environment of a test's daemons: the --root that they belong to
NOBODY = 65534

# A sanitizer's finding aborts the program. Otherwise it could look like an ordinary exit status, or stay in an unread log.
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
}
# For programs that preload a library of ours: it is loaded before the sanitizer's, which the sanitizer reports as an error.
SANITIZER_BEHIND_PRELOAD = {
    "ASAN_OPTIONS": f"{SANITIZER_ENVIRONMENT['ASAN_OPTIONS']}:verify_asan_link_order=0",
}
# scripts/tsan sets ThreadSanitizer's options and its report's path for the whole run.
SANITIZER_FINDING = r"ERROR: (Address|Leak)Sanitizer|ThreadSanitizer|runtime error:"


def adopt_orphans():
    """Makes daemons that fork into the background our children, so that we can wait for them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def wait_gone(pid, timeout):
    """Waits up to `timeout` seconds. Returns whether the process, which need not be a child of ours, has ended."""
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
    """Returns the exit status of a child as subprocess does (negative: a signal). Fails if the child does not end in time."""
    assert wait_gone(pid, timeout), f"process {pid} did not end within {timeout} s"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_and_reap(pid, timeout=5):
    """Returns whether it has ended. After SIGKILL, a process with a thread in the driver stays until the driver returns."""
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
    """status_fields() of each thread. Leaves out threads that end meanwhile."""
    found = []
    for entry in Path(f"/proc/{pid}/task").iterdir():
        try:
            found.append(status_fields(f"{pid}/task/{entry.name}"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def open_files(pid):
    """The process's open files: {descriptor: target}. Leaves out those that are closed meanwhile: all, if it has ended."""
    found = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(entry.name)] = os.readlink(entry)
    return found


def keepers(root):
    """The pids of the keepers of daemons with this root.

    A keeper has the daemon's environment. Unlike a daemon it has no event loop, so no epoll descriptor.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{ROOT_VARIABLE}={root}" not in (entry / "environ").read_text(errors="replace").split("\0"):
                continue
            targets = set(open_files(entry.name).values())
        except OSError:  # the process has ended, or we have no permission
            continue
        if "anon_inode:[signalfd]" in targets and "anon_inode:[eventpoll]" not in targets:
            found.append(int(entry.name))
    return found


def cpu_seconds(pid):
    """The process's user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid="self"):
    """The pids of a process's children (by default ours), including adopted ones."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # the thread has just ended
            continue
    return found


def daemons():
    """The pids of our children, including adopted ones, that are persistence daemons: Holdfast's or NVIDIA's."""
    named = [pid for pid in children() if Path(f"/proc/{pid}/comm").read_text().startswith("nvidia-persi")]
    return [pid for pid in named if "anon_inode:[signalfd]" not in open_files(pid).values()]  # not the keepers


def assert_childless(timeout=5):
    """Fails if the test has left a process behind, even one in the background. Reaps those that end by themselves in time."""
    left = []
    for pid in children():
        if wait_gone(pid, timeout):
            os.waitpid(pid, 0)
        else:
            left.append(f"{pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})")
            kill_and_reap(pid)
    assert not left, f"processes left behind: {', '.join(left)}"
