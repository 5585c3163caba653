#!/usr/bin/python
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors

# Runs on nodes with Python 3.6 and later.

DOCUMENTATION = """
module: holdfast_facts
short_description: Reports which service keeps a node's GPUs initialised, and what is wrong with it
description:
  - Asks systemd about the service, and C(holdfast) about the GPUs. It opens no GPU and changes nothing.
  - If Holdfast is not installed, it reports that.
author: The Holdfast authors
options:
  min_gpus:
    description: Report a fault if the node has fewer GPUs.
    type: int
    default: 0
  timeout:
    description: How many seconds to wait for the daemon's answer.
    type: int
    default: 5
attributes:
  check_mode:
    support: full
"""

EXAMPLES = """
- name: Examine the node
  holdfast.gpu.holdfast_facts:
    min_gpus: 8

- name: Fail if the node has a problem
  ansible.builtin.assert:
    that: ansible_facts.holdfast.fault is none
    fail_msg: "{{ ansible_facts.holdfast.fault }}"
"""

RETURN = """
ansible_facts:
  description: What was found.
  returned: always
  type: complex
  contains:
    holdfast:
      description: The node's state.
      returned: always
      type: complex
      contains:
        installed:
          description: Whether the command C(holdfast) is installed.
          type: bool
          returned: always
        version:
          description: Its version.
          type: str
          returned: when installed
        service:
          description: The unit that runs the persistence daemon, or would run it at the next boot.
          type: dict
          returned: always
          sample:
            {"name": "nvidia-persistenced.service", "load_state": "loaded", "active_state": "active",
             "enabled": "enabled", "program": "/usr/bin/nvidia-persistenced", "foreign": false, "taken_over": false}
        status:
          description: The output of C(holdfast status --json).
          type: dict
          returned: when installed
        check:
          description: The output of C(holdfast check --json).
          type: dict
          returned: when installed
        verdict:
          description: OK, WARNING, CRITICAL or UNKNOWN.
          type: str
          returned: always
        fault:
          description: What is wrong, in words; null if the service is active and its daemon holds every GPU.
          type: str
          returned: always
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule

SERVICES = ("nvidia-persistenced.service", "holdfast.service")
PROPERTIES = ("ActiveState", "ExecStart", "FragmentPath", "LoadState", "UnitFileState")
TAKEOVER = "/etc/systemd/system/nvidia-persistenced.service.d/50-holdfast.conf"  # `holdfast takeover` creates it
STARTS_BY_ITSELF = ("enabled", "enabled-runtime", "static", "indirect", "generated", "linked")


# ---- the service ---------------------------------------------------------------


def read_unit(module, name):
    """Returns systemd's properties of a unit; all are empty if systemd does not run."""
    command = ["systemctl", "show", "--property=" + ",".join(PROPERTIES), name]
    if not module.get_bin_path("systemctl"):
        return dict.fromkeys(PROPERTIES, "")
    _, out, _ = module.run_command(command)
    found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    return {key: found.get(key, "") for key in PROPERTIES}


def program_of(unit):
    """systemd prints ExecStart as { path=/usr/bin/x ; argv[]=... }."""
    words = unit["ExecStart"].split()
    return next((word[len("path="):] for word in words if word.startswith("path=")), None)


def is_ours(program):
    """True if the program is Holdfast's daemon, possibly through a link: /usr/bin/nvidia-persistenced may be one."""
    return program is not None and os.path.realpath(program).endswith("/holdfast/nvidia-persistenced")


def describe(name, unit):
    program = program_of(unit)
    taken_over = name == SERVICES[0] and os.path.islink(TAKEOVER)
    return {
        "name": name,
        "load_state": unit["LoadState"],
        "active_state": unit["ActiveState"],
        "enabled": unit["UnitFileState"],
        "program": program,
        # The unit belongs to another package, which stays: `holdfast takeover` makes the unit run Holdfast's daemon.
        "foreign": unit["LoadState"] == "loaded" and (taken_over or not is_ours(program)),
        "taken_over": taken_over,
    }


def find_service(module):
    """Prefers a unit that runs, then one that starts at boot, then one that exists, then the first name."""
    units = [(name, read_unit(module, name)) for name in SERVICES]
    for key, value in (("ActiveState", "active"), ("UnitFileState", "enabled"), ("LoadState", "loaded")):
        for name, unit in units:
            if unit[key] == value:
                return describe(name, unit)
    return describe(*units[0])


# ---- the GPUs ------------------------------------------------------------------


def ask(module, command):
    """Runs a holdfast command and returns its JSON output, or None."""
    _, out, _ = module.run_command(command)
    try:
        return json.loads(out)
    except ValueError:
        return None


def read_version(module, holdfast):
    _, out, _ = module.run_command([holdfast, "--version"])
    return out.split()[-1] if out.split() else None


# ---- what is wrong -------------------------------------------------------------


def faults_of(facts):
    service = facts["service"]
    if not facts["installed"]:
        yield "Holdfast is not installed"
    if service["load_state"] != "loaded":
        yield "{name} is {state}".format(name=service["name"], state=service["load_state"] or "not known to systemd")
        return
    if service["active_state"] != "active":
        yield "{name} is {active_state}".format(**service)
    if service["enabled"] not in STARTS_BY_ITSELF:
        yield "{name} is {enabled}, so it would not start at boot".format(**service)
    if facts["installed"] and facts["check"] is None:
        yield "holdfast check gives no answer"
    elif facts["installed"] and facts["check"]["verdict"] != "OK":
        yield facts["check"]["summary"]


def verdict_of(facts, faults):
    """The verdict of `holdfast check`; CRITICAL for faults that the command does not check."""
    if not faults:
        return "OK"
    check = facts["check"]
    return check["verdict"] if check and check["verdict"] != "OK" and len(faults) == 1 else "CRITICAL"


def main():
    module = AnsibleModule(
        argument_spec={"min_gpus": {"type": "int", "default": 0}, "timeout": {"type": "int", "default": 5}},
        supports_check_mode=True,
    )
    holdfast = module.get_bin_path("holdfast")
    facts = {"installed": holdfast is not None, "service": find_service(module), "version": None, "status": None,
             "check": None}
    if holdfast:
        limit = ["--timeout", str(module.params["timeout"])]
        least = ["--min-gpus", str(module.params["min_gpus"])] if module.params["min_gpus"] else []
        facts["version"] = read_version(module, holdfast)
        facts["status"] = ask(module, [holdfast, "status", "--json"] + limit)
        facts["check"] = ask(module, [holdfast, "check", "--json"] + least + limit)
    faults = list(faults_of(facts))
    facts["verdict"] = verdict_of(facts, faults)
    facts["fault"] = "; ".join(faults) or None
    module.exit_json(changed=False, ansible_facts={"holdfast": facts})


if __name__ == "__main__":
    main()
