# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A daemon that holds eight GPUs and is asked nothing: memory of its own, threads, how often it wakes up. Ours has a
keeper beside it, a second process; memory is that of both.

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

MEMORY_GOAL = 0.6  # of the other daemon's
SETTLE_SEC = 5  # what the start leaves to timers is no rest
THREADS = 2  # one serves, and one writes the log
START_SEC = 20
EVERYBODYS = ("ld-linux", "libc.so")


def mapped(pid):
    """(file, {"Pss": kB, ...}) of each mapping; the file is empty for memory that is of no file."""
    name, fields = "", {}
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            name, fields = Path(words[5]).name if len(words) > 5 else "", {}
        elif words[0] == "VmFlags:":
            yield name, fields
        else:
            fields[words[0].rstrip(":")] = int(words[1])


def files(pid):
    lines = (line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return {Path(words[5]).name for words in lines if len(words) > 5}


def files_of_others(pids):
    """Those that processes other than these have mapped."""
    found = set()
    for other in filter(str.isdigit, os.listdir("/proc")):
        if int(other) not in pids:
            with contextlib.suppress(OSError):  # gone by now
                found |= files(other)
    return found


def private_kb(pids, others):
    """Pages that no other process has: what these cost the machine. A page that several of them share counts once, as
    their proportional shares make a whole; where others have the file mapped, what is private to each counts."""
    return sum(fields["Private_Clean"] + fields["Private_Dirty"] if name in others and ".so" in name else fields["Pss"]
               for pid in pids for name, fields in mapped(pid))


def shared_libraries(pids, others):
    """Those whose pages do not count as their own, but would where nobody else has them."""
    found = set().union(*map(files, pids)) & others
    return {name for name in found if ".so" in name and not name.startswith(EVERYBODYS)}


def wakeups(pid):
    """How often its threads went to sleep so far: once for each time that they woke up."""
    return sum(int(thread["voluntary_ctxt_switches"]) for thread in process.thread_fields(pid))


def threads(pid):
    return int(process.status_fields(pid)["Threads"])


def at_rest(contender, plan):
    with contender.running(GPUS, QUICK) as running:
        pid = running.daemon.pid
        running.daemon.get(running.world.gpus[0])
        wait_until(lambda: threads(pid) <= THREADS, "no job is left of the start", START_SEC)
        time.sleep(SETTLE_SEC)
        begin = wakeups(pid)
        time.sleep(plan.rest_sec)
        pids = [pid, *running.world.site.keepers()]
        others = files_of_others(pids)
        memory = private_kb(pids, others)
        keeper = memory - private_kb([pid], others) if len(pids) > 1 else None
        return {"wakeups": wakeups(pid) - begin, "memory": memory, "keeper": keeper, "threads": threads(pid),
                "shared": shared_libraries(pids, others)}


def measure(contenders, plan):
    found = {contender.name: at_rest(contender, plan) for contender in contenders}
    with echo_server(plan.build, plan.scratch / "echo") as echo:
        limit = private_kb([echo.pid], files_of_others([echo.pid]))

    def of(what):
        return {who: values[what] for who, values in found.items()}

    shared = sorted(set().union(*of("shared").values()))
    without = f" (not counted, as others have them: {', '.join(shared)})" if shared else ""
    yield Figure("rest", f"memory of its own, holding {GPUS} GPUs{without}", "kB", of("memory"), limit=limit, limit_is=ECHO,
                 peer_goal=MEMORY_GOAL)
    yield Figure("rest", "of it the keeper's share", "kB", of("keeper"))
    yield Figure("rest", "threads", "", of("threads"), limit=1, limit_is="a process", goal=THREADS)
    yield Figure("rest", f"wake-ups in {plan.rest_sec} s", "", of("wakeups"), goal=0)
