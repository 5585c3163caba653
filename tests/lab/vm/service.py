# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The service in the virtual machine, with the unchanged units of an installation."""

import json

UNIT = "nvidia-persistenced.service"
SOCKET = "/run/nvidia-persistenced/socket"
GROUP = f"/sys/fs/cgroup/system.slice/{UNIT}"


def status(machine):
    """Returns the document of `holdfast status --json`."""
    return json.loads(machine.exec("holdfast", "status", "--json"))


def wait_held(machine, addresses):
    """Waits until the daemon holds these GPUs."""
    machine.exec("holdfast", "wait", "--timeout", "30", *(word for address in addresses for word in ("--gpu", address)))


def show(machine, name):
    """Returns a property of the unit."""
    return machine.exec("systemctl", "show", "--property", name, "--value", UNIT).strip()


def try_inside(machine, line):
    """Runs a shell line as root in the service's control group, where its device rules and limits apply."""
    return machine.try_exec("sh", "-c", f'echo $$ >"$0/cgroup.procs" && {line}', GROUP)
