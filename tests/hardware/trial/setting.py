# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What every check is given: the machine, the programs under trial, a temporary folder, the record."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from harness.process import NOBODY

from . import attacks
from .daemon import Ours
from .machine import CAP_SYS_PTRACE, has_capability
from .record import Failed, NotPossible

PROGRAMS = {
    "daemon": "src/daemon/nvidia-persistenced",
    "command": "src/cli/holdfast",
    "probe": "tests/hardware/hardware-probe",
    "echo": "bench/bench-echo",
    "latency": "bench/bench-latency",
}
# Exit statuses of the probe, besides failure.
NOT_HERE, BARRED = 3, 4


class Setting:
    def __init__(self, machine, smi, record, folder, options):
        self.machine = machine
        self.smi = smi
        self.record = record
        self.folder = folder
        self.calls = options.calls
        self.nvml = options.nvml
        self.peer = options.peer
        self.programs = {name: options.build / path for name, path in PROGRAMS.items()}
        # The user nobody may be unable to reach the folder of the build.
        self.programs["probe"] = Path(shutil.copy(self.programs["probe"], folder))
        self.settings = {}  # before the trial
        self.legacy = {}  # {address: whether the kernel's flag is on}
        self.has_notices = False  # whether the driver has bind notices: from 575.51.02 on
        self.uvm_before = {gpu.address: machine.is_registered(gpu) for gpu in machine.usable}
        self.is_root = os.geteuid() == 0
        self.has_nobody = not self.is_root or attacks.can_become_nobody()
        self.links = folder / "root"
        self._link_root()

    def _link_root(self):
        """Makes a root with its own /run and links to everything else. Clients do not find a daemon below it by accident."""
        (self.links / "run").mkdir(parents=True)
        for name in ("dev", "proc", "sys"):
            (self.links / name).symlink_to(self.machine.path(f"/{name}"))

    # ---- daemons

    @property
    def user(self):
        """The options with which our daemon runs as the user nobody. Empty if that user may not open the nodes, or if this
        process may not look at that user's processes."""
        if not (self.is_root and self.has_nobody and has_capability(CAP_SYS_PTRACE) and self.machine.is_open_to_all):
            return []
        return ["--user", pwd.getpwuid(NOBODY).pw_name]

    def start_private(self, *options):
        return Ours(self.programs["daemon"], self.links, self.links / "run/nvidia-persistenced", self.folder,
                    *self.user, *options)

    def start_uvm(self):
        if not self.machine.path("/dev/nvidia-uvm").exists():
            raise NotPossible("there is no /dev/nvidia-uvm")
        if any(fields.get("mig_mode/current_mig") == "Enabled" for fields in self.settings.values()):
            raise NotPossible("a GPU is in MIG mode: UVM registers its instances, not the GPU")
        return self.start_private("--uvm-persistence-mode")

    def start_real(self):
        self.require_real_paths()
        return Ours(self.programs["daemon"], self.machine.root, self.machine.runtime_directory, self.folder)

    def require_real_paths(self):
        folder = self.machine.runtime_directory
        if not self.is_root:
            raise NotPossible(f"only root can serve at {folder}")
        if os.path.lexists(folder) and os.listdir(folder):
            raise NotPossible(f"{folder} belongs to another daemon: {', '.join(sorted(os.listdir(folder)))}")
        if not os.access(folder.parent, os.W_OK):
            raise NotPossible(f"{folder.parent} cannot be written")

    def clear_real_paths(self, was_there):
        """Removes the empty folder that a daemon leaves behind, unless the folder existed before."""
        folder = self.machine.runtime_directory
        if not was_there and folder.is_dir() and not os.listdir(folder):
            folder.rmdir()

    # ---- programs

    def run(self, name, *arguments, user=None):
        """Runs one of our programs and keeps its output in the record."""
        command = [str(self.programs[name]), *map(str, arguments)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
                              check=False, user=user, group=user, extra_groups=[] if user else None)
        shown = " ".join([self.programs[name].name, *(f"'{text}'" if not text else str(text) for text in arguments)])
        self.record.outputs[f"{shown}{' (as nobody)' if user else ''}"] = \
            f"{done.stdout}{done.stderr}\n[exit status {done.returncode}]"
        return done

    def probe(self, *arguments, user=None):
        done = self.run("probe", self.machine.root, *arguments, user=user)
        if done.returncode == NOT_HERE or (user and done.returncode == BARRED):
            raise NotPossible(done.stderr.strip())
        if done.returncode:
            raise Failed(done.stderr.strip())
        return done.stdout.splitlines()

    def leave_out_the_barred(self):
        """Marks GPUs that cannot be opened in spite of their node's mode, because of a container's device rules."""
        for gpu in self.machine.usable:
            done = self.run("probe", self.machine.root, "opens", gpu.address, 1)
            if done.returncode == BARRED:
                gpu.unusable = done.stderr.strip()

    # ---- common requirements

    def require_root(self):
        if not self.is_root:
            raise NotPossible("it requires root")

    def require_nobody(self):
        if not self.has_nobody:
            raise NotPossible("this container does not let root become nobody (CAP_SETUID, CAP_SETGID)")

    def require_safe_release(self):
        """Skips a Set where the GPU's memory is a NUMA node, because a release takes that from the system."""
        self.require_root()
        if any(self.machine.has_numa_memory(gpu) for gpu in self.machine.usable):
            raise NotPossible("a GPU has NUMA memory, which a release would take offline")

    @property
    def as_nobody(self):
        return NOBODY if self.is_root else None


def which(program):
    found = shutil.which(program) if program else None
    return Path(found).resolve() if found else None
