# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The virtual machine's simulated GPUs: real character devices, made with the kernel's CUSE."""

from harness.simulator import QUICK, Control, scenario

UNIT = "lab-gpus.service"
SOCKET = "/srv/gpus/run/holdfast-sim/socket"


class Gpus(Control):
    """Queries and controls the simulated driver: ctl(), status(), gpu(), journal(), and addresses."""

    def __init__(self, machine):
        self._machine = machine
        self.socket_path = machine.lab.folder / "vm.gpus"
        self.addresses = []

    def load(self, gpus=2, defaults=QUICK, **overrides):
        """Loads the driver with the arguments of harness.simulator.scenario()."""
        self._machine.write("/etc/lab/scenario.ini", scenario(gpus, defaults, **overrides))
        self._machine.exec("systemctl", "start", UNIT)
        self._machine.forward(self.socket_path, SOCKET)
        self.addresses = self.list_addresses()

    def unload(self):
        self._machine.exec("systemctl", "stop", UNIT)
