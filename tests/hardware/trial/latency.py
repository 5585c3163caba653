# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""How long a Get takes with a new connection, as NVML makes it. Several servers take turns, so one run compares them."""

import contextlib
import statistics
import subprocess

from .record import Failed

ROUNDS = 5
SECONDS_MAX = 60


@contextlib.contextmanager
def echo_server(program, path):
    """A context manager: a server that only accepts, reads, writes and closes, for the lowest possible time. Gives its path."""
    with subprocess.Popen([program, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as child:
        try:
            if child.stdout.readline().strip() != "ready":
                raise Failed(f"{program} did not start")
            yield path
        finally:
            child.terminate()
            path.unlink(missing_ok=True)


def round_nsec(program, path, address, calls):
    done = subprocess.run([program, path, address, str(calls), "1", str(SECONDS_MAX)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=2 * SECONDS_MAX, check=False)
    if done.returncode:
        raise Failed(f"{program} {path} ends with {done.returncode}: {done.stderr.strip()}")
    lines = done.stdout.split()
    failed = lines.count("failed")
    if failed or not lines:
        raise Failed(f"{failed} of {len(lines)} calls to {path} were not answered")
    return [int(line) for line in lines]


def summarise(nsec):
    """Returns the median and the 99th percentile in microseconds."""
    ordered = sorted(nsec)
    return {"calls": len(ordered), "median_usec": round(statistics.median(ordered) / 1000, 1),
            "p99_usec": round(ordered[int(len(ordered) * 0.99)] / 1000, 1)}


def compare(program, servers, address, calls):
    """Measures the servers {name: socket}; returns {name: summary}."""
    times = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, path in servers.items():
            times[name] += round_nsec(program, path, address, calls)
    return {name: summarise(nsec) for name, nsec in times.items()}


def sentence(figures, limit):
    """Returns every server's figures as text, with their ratio to those of the server named by limit."""
    return "; ".join(f"{name}: median {each['median_usec']} us ({each['median_usec'] / figures[limit]['median_usec']:.2f} x), "
                     f"p99 {each['p99_usec']} us ({each['p99_usec'] / figures[limit]['p99_usec']:.2f} x)"
                     for name, each in figures.items())
