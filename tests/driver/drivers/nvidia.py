# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""NVIDIA's driver on this machine, with the fake GPUs of tests/lab/nvidia. All tests share it, so each one cleans up."""

import re
import time
from pathlib import Path

from .driver import ADDRESSES, COUNT, Driver

CONTROL = Path("/proc/holdfast-lab")
DEVICES = Path("/sys/bus/pci/devices")
BINDING = Path("/sys/bus/pci/drivers/nvidia")
TEXTS = ("address", "uuid")


class Nvidia(Driver):
    name = "nvidia"
    root = Path("/")

    def __init__(self, times):
        super().__init__()
        self.version = Path("/sys/module/nvidia/version").read_text().strip()
        self._drained = set()
        self._before = [(0, 0)] * COUNT
        self._before = [(gpu["initialisations"], gpu["teardowns"]) for gpu in self.gpus()]
        for index, gpu in enumerate(times):
            for name in ("lock", "init", "teardown"):
                self._command(index, name, getattr(gpu, name))

    def _command(self, gpu, name, value, *more):
        CONTROL.write_text(" ".join(map(str, (gpu, name, value, *more))))

    def gpu(self, index):
        """Returns the GPU's state, with counts since the beginning of the test."""
        line = CONTROL.read_text().splitlines()[index]
        told = dict(word.split("=") for word in line.split())
        told = {name: value if name in TEXTS else int(value) for name, value in told.items()}
        initialisations, teardowns = self._before[index]
        return {"usage_count": 0, "minor": None, "legacy": 0} | told | {
            "uuid": bytes.fromhex(told["uuid"]), "bound": bool(told["bound"]), "legacy": bool(told.get("legacy")),
            "initialised": told["initialisations"] > told["teardowns"], "initialising": bool(told["initialising"]),
            "initialisations": told["initialisations"] - initialisations, "teardowns": told["teardowns"] - teardowns}

    def fail(self, gpu, count=1, status=0x59):
        self._command(gpu, "fail", count, status)

    def hang(self, gpu, which="open", on=True):
        self._command(gpu, f"hang_{which}", int(on))

    def legacy(self, gpu, on=True):
        """Sets the flag as nvidia-smi does: between an open and a close."""
        with self.opened(gpu):
            self._command(gpu, "legacy", int(on))

    def drain(self, gpu, on=True):
        super().drain(gpu, on)
        (self._drained.add if on else self._drained.discard)(gpu)

    def lose(self, gpu):
        self._command(gpu, "surprise", 1)

    def unbind(self, gpu):
        (BINDING / "unbind").write_text(ADDRESSES[gpu])

    def bind(self, gpu):
        (BINDING / "bind").write_text(ADDRESSES[gpu])

    def remove(self, gpu):
        (DEVICES / ADDRESSES[gpu] / "remove").write_text("1")

    def add(self, gpu):
        Path("/sys/bus/pci/rescan").write_text("1")

    # ---- cleaning up for the next test

    def end_hangs(self):
        for gpu in range(COUNT):
            for name in ("hang_open", "hang_close", "fail"):
                self._command(gpu, name, 0)

    def restore(self):
        for gpu in self._drained.copy():
            self.drain(gpu, False)
        self._bind_all()
        for gpu in range(COUNT):
            if self.gpu(gpu)["legacy"]:
                self.legacy(gpu, False)
        self._wait_cold()

    def _bind_all(self):
        """Binds all GPUs in the order of the slots, which restores the minors."""
        if not all((DEVICES / address).exists() for address in ADDRESSES):
            self.add(None)
        wrong = [gpu for gpu in range(COUNT) if self.gpu(gpu)["minor"] != gpu]
        for gpu in wrong:
            if self.gpu(gpu)["bound"]:
                self.unbind(gpu)
        for gpu in wrong:
            self.bind(gpu)

    def _wait_cold(self):
        end = time.monotonic() + 30
        while True:
            used = [gpu for gpu in self.gpus() if gpu["usage_count"] or gpu["initialised"] or gpu["initialising"]]
            if not used:
                return
            assert time.monotonic() < end, f"a test left GPUs in use: {used}"
            time.sleep(0.05)


def is_loaded():
    return CONTROL.exists() and re.search(r"^nvidia ", Path("/proc/modules").read_text(), re.MULTILINE) is not None
