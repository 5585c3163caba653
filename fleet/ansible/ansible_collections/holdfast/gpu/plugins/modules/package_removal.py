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
    replace the named ones, with C(apt-get) or C(dnf).
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
      - C(dnf) takes the newest version, and may upgrade or remove a driver that requires another one. Add the driver's
        version to prevent that, as in C(nvidia-persistenced-595.71.05).
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

from ansible.module_utils.basic import AnsibleModule

DEB = {
    "is_installed": ["dpkg-query", "--show", "--showformat=${db:Status-Status}"],
    "update": ["apt-get", "update"],
    "install": ["apt-get", "install", "--yes", "--no-install-recommends"],
    "remove": ["dpkg", "--remove"],
}
RPM = {
    "is_installed": ["rpm", "--query", "--queryformat=installed"],
    "update": ["dnf", "makecache"],
    "install": ["dnf", "--assumeyes", "--allowerasing", "--setopt=install_weak_deps=False", "install"],
    "remove": ["rpm", "--erase"],
}


def find_installed(module, tools, names):
    if not module.get_bin_path(tools["is_installed"][0]):
        return []
    answers = {name: module.run_command(tools["is_installed"] + [name]) for name in names}
    return [name for name in names if answers[name][0] == 0 and answers[name][1] == "installed"]


def choose_tools(module, names):
    """Returns the tools that find one of the packages; if none is installed, those that this node has."""
    for tools in (DEB, RPM):
        if find_installed(module, tools, names):
            return tools
    return DEB if module.get_bin_path("apt-get") else RPM


def run(module, command, advice):
    environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    status, out, errors = module.run_command(command, environ_update=environment)
    if status != 0:
        module.fail_json(msg="{0} failed: {1}{2}".format(command[0], (errors or out).strip()[-2000:], advice), stdout=out)


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
    before = find_installed(module, tools, names)
    missing = [name for name in replacements if name not in find_installed(module, tools, replacements)]
    if not module.check_mode:
        if missing and module.params["update_cache"]:
            run(module, tools["update"], "")
        if missing:
            run(module, tools["install"] + missing, "")
        left = find_installed(module, tools, names)
        if left:
            run(module, tools["remove"] + left, ". Nothing was removed. If another package requires one of these, name "
                                                "what replaces it (persistence_restore_packages)")
    module.exit_json(changed=bool(before or missing), removed=before,
                     diff={"before": "".join(name + "\n" for name in before), "after": "".join(name + "\n" for name in missing)})


if __name__ == "__main__":
    main()
