#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""commands.py BUILD: runs each program and each command of a build once, on a simulated node with two GPUs.

It checks in seconds whether everything starts and works together. It requires no root, no /dev/fuse and no Python package:
the daemon reaches the simulated driver through the simulated library of NVIDIA.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "system"))

from harness import process  # noqa: E402
from harness.world import World  # noqa: E402

# For each command that `holdfast --help` lists: its options, the expected exit status, and a pattern in its output. The
# node has a daemon, but no device files, no /proc/driver and no systemd. Only root may switch persistence mode.
AS_ROOT = os.geteuid() == 0
COMMANDS = {
    "status": ([], 0, r"2 of 2 GPUs held"),
    "query": (["--fields", "index,holdfast.state"], 0, r"^1, held$"),
    "set": (["on", "--gpu", "0"], *((0, r"^GPU 0 ") if AS_ROOT else (4, r"only root of the host may change it"))),
    "wait": (["--timeout", "10"], 0, r"GPU"),
    "check": ([], 0, r"^HOLDFAST OK"),
    "clients": (["--json"], 0, r'"clients": \['),
    "metrics": ([], 0, r'^holdfast_daemon_info\{kind="holdfast"'),
    "bench": (["--held-only"], 1, r"measurements of held open discarded: cannot open"),
    "release": (["--dry-run", "--", "true"], 0, r"GPU 0 "),
    "settings": ([], 0, r"No settings are wanted"),
    "doctor": ([], 1, r"^PROBLEM driver-loaded"),
    "takeover": (["--status"], 1, r"systemd does not run here"),
}


class Checks:
    """Runs commands, prints whether each one succeeded, and counts failures."""

    def __init__(self, environment):
        self._environment = environment
        self.failed = 0

    def run(self, name, command, status=0, pattern=""):
        done = subprocess.run(list(map(str, command)), env=self._environment, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
        good = (done.returncode == status and re.search(pattern, done.stdout, re.MULTILINE)
                and not re.search(process.SANITIZER_FINDING, done.stdout))
        print(f"{'ok    ' if good else 'FAILED'} {name}", flush=True)
        if not good:
            print(f"       exit status {done.returncode} (expected {status}), output (expected {pattern!r}):\n{done.stdout}")
            self.failed += 1
        return done.stdout


def check_commands(checks, build, root):
    program = build / "src/cli/holdfast"
    listed = re.findall(r"^  ([a-z]+) ", checks.run("holdfast --help", [program, "--help"], 0, "^Commands:")
                        .partition("Commands:")[2].partition("Options:")[0], re.MULTILINE)
    if set(listed) != set(COMMANDS):
        print(f"FAILED the table of this test has {sorted(COMMANDS)}, the help lists {sorted(listed)}")
        checks.failed += 1
    for name, (options, status, pattern) in COMMANDS.items():
        checks.run(f"holdfast {name} --help", [program, name, "--help"], 0, f"^Usage: holdfast {name}")
        checks.run(" ".join(["holdfast", name, *options]), [program, "--root", root, name, *options], status, pattern)


def check_programs(checks, world):
    build = world.build
    checks.run("nvidia-persistenced --version", [build / "src/daemon/nvidia-persistenced", "--version"], 0, r"\d+\.\d+")
    checks.run("nvidia-persistenced --help", [build / "src/daemon/nvidia-persistenced", "--help"], 0, "--persistence-mode")
    checks.run("holdfast-sim --help", [build / "sim/holdfast-sim", "--help"], 0, "ctl")
    checks.run("holdfast-sim ctl status", [build / "sim/holdfast-sim", "ctl", "--socket", world.sim.socket_path, "status"],
               0, world.gpus[0])


def main(build):
    process.adopt_orphans()
    world = World(build, "nvidia-cfg")
    try:
        world.simulate(gpus=2)
        world.start("--verbose")
        checks = Checks(world.site.environment)
        check_programs(checks, world)
        check_commands(checks, build, world.site.root)
    finally:
        world.clean_up()
    return 1 if checks.failed else 0


if __name__ == "__main__":
    os.environ["LC_ALL"] = "C.UTF-8"
    sys.exit(main(Path(sys.argv[1]).resolve()))
