#!/usr/bin/python
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors

# Runs on nodes with Python 3.6 and later.

DOCUMENTATION = """
module: package_files
short_description: Installs package files (.deb, .rpm) that belong together, in one transaction
description:
  - Installs, upgrades or downgrades packages to exactly the versions of the files, with C(apt-get) or C(dnf).
  - Holdfast's packages depend on each other in the same version, so they must change together. M(ansible.builtin.apt)
    installs files only one after another.
  - In check mode, a missing file counts as a change, because an earlier task would have copied it.
author: The Holdfast authors
options:
  paths:
    description: Paths of the files on the node, either all .deb or all .rpm.
    type: list
    elements: path
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = """
- name: Install the files that an earlier task copied
  holdfast.gpu.package_files:
    paths:
      - /var/cache/holdfast/holdfast_0.1.0_amd64.deb
      - /var/cache/holdfast/holdfast-nvidia-persistenced_0.1.0_all.deb
"""

RETURN = """
packages:
  description: The name and version of each package file. In check mode, missing files are left out.
  returned: always
  type: dict
  sample: {"holdfast": "0.1.0"}
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.gpu.plugins.module_utils import packages

# What conflicts is removed without a question: the administrator has decided by naming these files for these nodes.
DEB = {
    "in_file": ["dpkg-deb", "--show", "--showformat=${Package} ${Version}"],
    "state": packages.DEB_STATE,
    "install": packages.APT_INSTALL + ["--allow-downgrades"],
}
RPM = {
    "in_file": ["rpm", "--query", "--queryformat=%{NAME} %{EVR}", "--package"],
    "state": packages.RPM_STATE,
    "install": packages.DNF_INSTALL,
}


def choose_tools(module, paths):
    kinds = {os.path.splitext(path)[1] for path in paths}
    if kinds == {".deb"}:
        return DEB
    if kinds == {".rpm"}:
        return RPM
    module.fail_json(msg="{0}: files must be all .deb or all .rpm".format(", ".join(paths)))


def read_file(module, tools, path):
    """Returns the name and version of a package file."""
    _, out, _ = module.run_command(tools["in_file"] + [path], check_rc=True)
    name, version = out.split()
    return name, version


def read_installed(module, tools, name):
    """Returns the installed version of a package, or None."""
    versions = [version for state, version in packages.states_of(module, tools["state"], name) if state == "installed"]
    return versions[0] if versions else None


def installed_of(module, tools, names):
    return {name: read_installed(module, tools, name) for name in names}


def as_lines(versions):
    return "".join("{0} {1}\n".format(name, version) for name, version in sorted(versions.items()) if version)


def install(module, tools, paths, wanted):
    command = tools["install"] + paths
    status, out, errors = module.run_command(command, environ_update=packages.ENVIRONMENT)
    if status != 0:
        module.fail_json(msg="{0} failed: {1}".format(command[0], (errors or out).strip()[-2000:]), stdout=out)
    now = installed_of(module, tools, wanted)
    if now != wanted:
        module.fail_json(msg="{0} reports success, but the installed versions are\n{1}instead of\n{2}".format(
            command[0], as_lines(now), as_lines(wanted)), stdout=out)


def main():
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "path", "required": True}},
        supports_check_mode=True,
    )
    paths = module.params["paths"]
    tools = choose_tools(module, paths)
    to_come = [path for path in paths if not os.path.exists(path)] if module.check_mode else []
    wanted = dict(read_file(module, tools, path) for path in paths if path not in to_come)
    before = installed_of(module, tools, wanted)
    changed = before != wanted or bool(to_come)
    if changed and not module.check_mode:
        install(module, tools, paths, wanted)
    after = as_lines(wanted) + "".join("{0}\n".format(os.path.basename(path)) for path in to_come)
    module.exit_json(changed=changed, packages=wanted, diff={"before": as_lines(before), "after": after})


if __name__ == "__main__":
    main()
