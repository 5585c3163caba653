# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The simulator as a driver of one version."""

from harness.simulator import Simulator

from .driver import ADDRESSES, COUNT, Driver


def scenario(version, times):
    """Returns a scenario with these times of each GPU."""
    sections = [f"[driver]\nversion = {version}\n[gpus]\ncount = {COUNT}\n"]
    sections += [f"[gpu {index}]\naddress = {ADDRESSES[index]}\nlock = {gpu.lock}ms\ninit = {gpu.init}ms\n"
                 f"teardown = {gpu.teardown}ms\n" for index, gpu in enumerate(times)]
    return "\n".join(sections)


class Simulated(Driver):
    name = "simulator"

    def __init__(self, build, folder, version, times):
        super().__init__()
        self.version = version
        self.root = folder / "root"
        self.root.mkdir()
        self._simulator = Simulator(build, self.root, scenario(version, times), mount=True)

    def gpu(self, index):
        told = self._simulator.status()["gpus"][index]
        return told | {"uuid": bytes.fromhex(told["uuid"].removeprefix("GPU-").replace("-", ""))}

    def fail(self, gpu, count=1, status=0x59):
        self._simulator.ctl("fail", gpu=gpu, count="all" if count < 0 else count, status=status)

    def hang(self, gpu, which="open", on=True):
        self._simulator.ctl("hang", gpu=gpu, which=which, on=on)

    def legacy(self, gpu, on=True):
        self._simulator.ctl("legacy", gpu=gpu, on=on)

    def drain(self, gpu, on=True):
        self._simulator.ctl("drain", gpu=gpu, on=on)

    def lose(self, gpu):
        self._simulator.ctl("lose", gpu=gpu, surprise=True)

    def unbind(self, gpu):
        self._simulator.ctl("unbind", gpu=gpu, timeout=60)

    def bind(self, gpu):
        self._simulator.ctl("bind", gpu=gpu)

    def remove(self, gpu):
        self._simulator.ctl("remove", gpu=gpu, timeout=60)

    def add(self, gpu):
        self._simulator.ctl("add", gpu=gpu)

    def end_hangs(self):
        for which in ("open", "close"):
            self._simulator.ctl("hang", gpu="all", which=which, on=False)

    def restore(self):
        self._simulator.stop()
