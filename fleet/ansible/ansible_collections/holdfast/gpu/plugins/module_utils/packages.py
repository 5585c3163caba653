# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The commands of dpkg, apt, rpm and dnf that both modules for packages use. Runs on nodes with Python 3.6 and later."""

ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}

# Both print a line "STATE VERSION" for each installed architecture of a package.
DEB_STATE = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}\n"]
RPM_STATE = ["rpm", "--query", "--queryformat=installed %{EVR}\n"]

# Both ask no questions, and remove what conflicts. As ansible.builtin.apt does, apt-get waits for another apt, and keeps changed
# configuration files.
APT_LOCK = "--option=DPkg::Lock::Timeout=60"
APT_INSTALL = ["apt-get", "install", "--yes", "--no-install-recommends", APT_LOCK,
               "--option=Dpkg::Options::=--force-confdef", "--option=Dpkg::Options::=--force-confold"]
DNF_INSTALL = ["dnf", "--assumeyes", "--allowerasing", "--setopt=install_weak_deps=False", "install"]


def states_of(module, command, name):
    """Returns [state, version] of each installed architecture. command: DEB_STATE or RPM_STATE."""
    if not module.get_bin_path(command[0]):
        return []
    status, out, _ = module.run_command(command + [name])
    return [line.split() for line in out.splitlines()] if status == 0 else []
