#!/usr/bin/python
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors

# Runs on nodes with Python 3.6 and later.

DOCUMENTATION = """
module: package_removal
short_description: Removes packages, and never a package that requires one of them
description:
  - C(apt-get remove) and C(dnf remove) also remove the packages that require the named ones. A driver may require
    C(nvidia-persistenced), which Holdfast's package provides, so they would remove the driver.
  - This module removes packages with C(dpkg) or C(rpm), which refuse that. It first installs the packages that are to
    replace the named ones, with C(apt-get) or C(dnf). It fails if these would upgrade or remove any other package.
author: The Holdfast authors
options:
  names:
    description: The packages to remove. Those that are not installed are ignored.
    type: list
    elements: str
    required: true
  replacements:
    description:
      - Packages of a repository to install first. They may conflict with those that are to be removed.
      - If the newest version does not fit the other installed packages, add a version, as in C(NAME=VERSION) for
        C(apt-get) or C(NAME-VERSION) for C(dnf).
    type: list
    elements: str
    default: []
  update_cache:
    description: Whether to read the repositories' lists again before installing the replacements.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = """
- name: Give the name nvidia-persistenced back to NVIDIA's package
  holdfast.gpu.package_removal:
    names: [holdfast, holdfast-nvidia-persistenced]
    replacements: [nvidia-persistenced]
"""

RETURN = """
removed:
  description: The packages that were installed and have been removed, or in check mode would be.
  returned: always
  type: list
  sample: [holdfast]
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.gpu.plugins.module_utils import packages

DEB = {
    "state": packages.DEB_STATE,
    "update": ["apt-get", packages.APT_LOCK, "update"],
    "simulate": packages.APT_INSTALL + ["--simulate"],
    "install": packages.APT_INSTALL,
    "test": ["dpkg", "--no-act", "--remove"],
    "remove": ["dpkg", "--remove"],
}
RPM = {
    "state": packages.RPM_STATE,
    "update": ["dnf", "makecache"],
    "simulate": ["--assumeno" if word == "--assumeyes" else word for word in packages.DNF_INSTALL],
    "install": packages.DNF_INSTALL,
    "test": ["rpm", "--erase", "--test"],
    "remove": ["rpm", "--erase"],
}
# Finds changes of installed packages: apt-get prints the installed version in brackets.
APT_CHANGE = re.compile(r"^(?:Inst (?=\S+ \[)|Remv )([^\s:]+)", re.MULTILINE)
DNF_SECTIONS = ("Upgrading:", "Downgrading:", "Removing:", "Removing dependent packages:")


def find_present(module, tools, names):
    """Returns the packages that have files on this node, also those that are not installed completely."""
    return [name for name in names
            if any(state[0] not in ("not-installed", "config-files") for state in packages.states_of(module, tools["state"], name))]


def is_complete(module, tools, wanted):
    """wanted: a name, for apt-get perhaps with =VERSION."""
    name, _, version = wanted.partition("=")
    return any(state[0] == "installed" and version in ("", state[1]) for state in packages.states_of(module, tools["state"], name))


def choose_tools(module, names):
    """Returns the tools that find one of the packages; if none is installed, those that this node has."""
    for tools in (DEB, RPM):
        if find_present(module, tools, names):
            return tools
    return DEB if module.get_bin_path("apt-get") else RPM


def run(module, command, advice=""):
    status, out, errors = module.run_command(command, environ_update=packages.ENVIRONMENT)
    if status != 0:
        module.fail_json(msg="{0} failed: {1}{2}".format(command[0], (errors or out).strip()[-2000:], advice), stdout=out)


def dnf_changes(text):
    """Returns the installed packages that dnf would change, from the table that it prints."""
    names, section = [], ""
    for line in text.splitlines():
        row = re.match(r" (\S+)", line)
        if row and section in DNF_SECTIONS:
            names.append(row.group(1))
        elif line and not line.startswith(" "):
            section = line.strip()
    return names


def install(module, tools, wanted, names):
    """Installs the packages unless this changes an installed package other than `names`."""
    _, out, _ = module.run_command(tools["simulate"] + wanted, environ_update=packages.ENVIRONMENT)
    changes = APT_CHANGE.findall(out) if tools is DEB else dnf_changes(out)
    others = sorted(set(changes) - set(names))
    if others:
        module.fail_json(msg="{0} would also upgrade or remove {1}, so nothing was changed. Name versions that fit the installed "
                             "packages (persistence_restore_packages)".format(tools["install"][0], ", ".join(others)), stdout=out)
    run(module, tools["install"] + wanted)


def main():
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "replacements": {"type": "list", "elements": "str", "default": []},
            "update_cache": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    names, replacements = module.params["names"], module.params["replacements"]
    tools = choose_tools(module, names + replacements)
    before = find_present(module, tools, names)
    missing = [name for name in replacements if not is_complete(module, tools, name)]
    if missing and not module.check_mode:
        if module.params["update_cache"]:
            run(module, tools["update"])
        install(module, tools, missing, names)
    left = find_present(module, tools, names)
    # Try the removal without an effect first: if dpkg refuses a real one, it remembers that the packages are to be removed.
    if left and not (missing and module.check_mode):
        run(module, tools["test"] + left, ". Not removed: {0}. If another package requires one of these, name what replaces it "
                                          "(persistence_restore_packages)".format(", ".join(left)))
    if left and not module.check_mode:
        run(module, tools["remove"] + left)
    module.exit_json(changed=bool(before or missing), removed=before,
                     diff={"before": "".join(name + "\n" for name in before), "after": "".join(name + "\n" for name in missing)})


if __name__ == "__main__":
    main()
