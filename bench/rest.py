# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A daemon that holds eight GPUs and is asked nothing: memory of its own, threads, how often it wakes up.

The echo server's memory is the limit: a process that does hardly anything.
"""

import contextlib
import os
import time
from pathlib import Path

from harness import process
from harness.events import wait_until

from echo import echo_server
from figure import Figure
from latency import ECHO, GPUS, QUICK

MEMORY_GOAL_KB = 560
SETTLE_SEC = 5  # what the start leaves to timers is no rest
EVERYBODYS = ("ld-linux", "libc.so")


def private_kb(pid):
    """Pages that nobody else has: what the process costs the machine."""
    fields = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(field[1]) for field in fields if field[0] in ("Private_Clean:", "Private_Dirty:"))


def libraries(pid):
    names = {Path(line.split()[-1]).name for line in Path(f"/proc/{pid}/maps").read_text().splitlines()}
    return {name for name in names if ".so" in name and not name.startswith(EVERYBODYS)}


def shared_libraries(pid):
    """Those that another process has mapped, too: their pages do not count as the process' own then."""
    others = set()
    for other in filter(str.isdigit, os.listdir("/proc")):
        if int(other) != pid:
            with contextlib.suppress(OSError):  # gone by now
                others |= libraries(other)
    return libraries(pid) & others


def wakeups(pid):
    """How often its threads went to sleep so far: once for each time that they woke up."""
    return sum(int(thread["voluntary_ctxt_switches"]) for thread in process.thread_fields(pid))


def threads(pid):
    return int(process.status_fields(pid)["Threads"])


def at_rest(contender, plan):
    with contender.running(GPUS, QUICK) as running:
        pid = running.daemon.pid
        running.daemon.get(running.world.gpus[0])
        wait_until(lambda: threads(pid) == 1, "no job is left of the start", plan.rest_sec)
        time.sleep(SETTLE_SEC)
        begin = wakeups(pid)
        time.sleep(plan.rest_sec)
        return {"wakeups": wakeups(pid) - begin, "memory": private_kb(pid), "shared": shared_libraries(pid),
                "threads": threads(pid)}


def measure(contenders, plan):
    found = {contender.name: at_rest(contender, plan) for contender in contenders}
    with echo_server(plan.build, plan.scratch / "echo") as echo:
        limit = private_kb(echo.pid)

    def of(what):
        return {who: values[what] for who, values in found.items()}

    shared = sorted(set().union(*of("shared").values()))
    without = f" (not counted, as others have them: {', '.join(shared)})" if shared else ""
    yield Figure("rest", f"private memory, holding {GPUS} GPUs{without}", "kB", of("memory"), limit=limit, limit_is=ECHO,
                 goal=MEMORY_GOAL_KB)
    yield Figure("rest", "threads", "", of("threads"), limit=1, limit_is="a process", goal=1)
    yield Figure("rest", f"wake-ups in {plan.rest_sec} s", "", of("wakeups"), goal=0)
