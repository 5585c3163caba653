# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The service as tests of the virtual machine see it: the units, unchanged, that an installation has."""

import json

UNIT = "nvidia-persistenced.service"
SOCKET = "/run/nvidia-persistenced/socket"
GROUP = f"/sys/fs/cgroup/system.slice/{UNIT}"


def status(machine):
    """What `holdfast status --json` says."""
    return json.loads(machine.exec("holdfast", "status", "--json"))


def wait_held(machine, addresses):
    """Until the daemon holds these GPUs."""
    machine.exec("holdfast", "wait", "--timeout", "30", *(word for address in addresses for word in ("--gpu", address)))


def show(machine, name):
    """A property of the unit."""
    return machine.exec("systemctl", "show", "--property", name, "--value", UNIT).strip()


def try_inside(machine, line):
    """Runs a shell's line as root in the service's control group, so under its device rules and limits."""
    return machine.try_exec("sh", "-c", f'echo $$ >"$0/cgroup.procs" && {line}', GROUP)
