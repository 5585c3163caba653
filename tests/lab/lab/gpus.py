# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A node's simulated GPUs at /dev/nvidia* and /proc/driver/nvidia. A service on the node simulates them at every boot."""

from harness.events import wait_until
from harness.simulator import QUICK, Control, scenario

UNIT = "lab-gpus.service"
PROGRAM = "/usr/lib/lab/holdfast-sim"
FILE = "/etc/lab/scenario.ini"


class Gpus(Control):
    """Queries and controls the simulated driver: ctl(), status(), gpu(), journal(), and addresses."""

    def __init__(self, node):
        self._node = node
        self.addresses = []

    @property
    def socket_path(self):
        return self._node.path("/run/holdfast-sim/socket")

    def load(self, text=None, *, gpus=2, defaults=QUICK, **overrides):
        """Loads the driver with the text of a scenario, or with the arguments of harness.simulator.scenario(). A second call
        is like a reload of the driver, and requires that no process uses its GPUs."""
        node = self._node
        node.put(node.release.simulator, PROGRAM)
        node.write(FILE, text or scenario(gpus, defaults, **overrides))
        node.exec("systemctl", "enable", "--quiet", UNIT)
        node.exec("systemctl", "restart", UNIT)
        self.addresses = self.list_addresses()

    def unload(self):
        """Unloads the driver permanently: it stays unloaded after a reboot."""
        self._node.exec("systemctl", "disable", "--now", "--quiet", UNIT)

    def wait_released(self):
        """Waits until no GPU has a user."""
        wait_until(lambda: not any(self.users()), "no GPU in use", timeout=20)
