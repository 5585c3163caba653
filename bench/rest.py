# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Measures an idle daemon that holds eight GPUs: its own memory, its threads, and how often it wakes up. The memory of our
daemon includes its keeper, a second process.

The limit for memory is the echo server, a process that does almost nothing.
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

MEMORY_GOAL = 0.6  # times the other daemon's memory
SETTLE_SEC = 5  # the daemon's timers of the start must have ended
THREADS = 2  # one serves, and one writes the log
START_SEC = 20
EVERYBODYS = ("ld-linux", "libc.so")


def mapped(pid):
    """Yields (file, {"Pss": kB, ...}) for each mapping. The file is empty for anonymous memory."""
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
    """Returns the files that processes other than these have mapped."""
    found = set()
    for other in filter(str.isdigit, os.listdir("/proc")):
        if int(other) not in pids:
            with contextlib.suppress(OSError):  # the process may have ended
                found |= files(other)
    return found


def private_kb(pids, others):
    """Returns the memory that these processes cost the machine: pages that no other process has. A page that they share
    counts once, because their proportional shares add up. For files that others have mapped, only private pages count."""
    return sum(fields["Private_Clean"] + fields["Private_Dirty"] if name in others and ".so" in name else fields["Pss"]
               for pid in pids for name, fields in mapped(pid))


def shared_libraries(pids, others):
    """Returns the files whose pages do not count here, but would if no other process had mapped them."""
    found = set().union(*map(files, pids)) & others
    return {name for name in found if ".so" in name and not name.startswith(EVERYBODYS)}


def wakeups(pid):
    """Counts how often its threads went to sleep so far, which equals how often they woke up."""
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
