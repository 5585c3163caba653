# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Ansible on this machine for the lab's nodes, with the collection built and installed as operators do."""

import contextlib
import itertools
import json
import os
import subprocess
from pathlib import Path

from lab.clock import timed
from lab.lab import TOP

COLLECTION = TOP / "fleet/ansible/ansible_collections/holdfast/gpu"
CALLBACKS = Path(__file__).resolve().parent / "callbacks"
TIMEOUT_SEC = 300


class Run:
    """The result of a playbook, and what each task did on each node."""

    def __init__(self, completed, record):
        self.status = completed.returncode
        self.text = completed.stdout + completed.stderr
        self.results = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    def tasks(self, node, wanted):
        return [entry["task"] for entry in self.results if entry["host"] == node.name and wanted(entry)]

    def changed(self, node):
        """Returns the tasks, in order, that changed something on the node, or would do so in check mode."""
        return self.tasks(node, lambda entry: entry["changed"])

    def message(self, task):
        """Returns the message of the task's last run."""
        return [entry["message"] for entry in self.results if entry["task"].endswith(task)][-1]

    def order(self, task):
        """Returns the nodes on which the task ran, in order."""
        return [entry["host"] for entry in self.results if entry["task"].endswith(task)]


class Controller:
    def __init__(self, lab):
        self._lab = lab
        self.folder = lab.folder / "controller"
        self.folder.mkdir()
        self._runs = itertools.count()
        with timed("ansible-galaxy"):
            self._galaxy("build", COLLECTION, "--output-path", self.folder)
            archive, = self.folder.glob("*.tar.gz")
            self._galaxy("install", "--offline", "--collections-path", self.folder / "collections", archive)

    @property
    def environment(self):
        settings = {
            "CALLBACKS_ENABLED": "record",
            "CALLBACK_PLUGINS": CALLBACKS,
            "COLLECTIONS_PATH": self.folder / "collections",
            "CONFIG": TOP / "fleet/ansible/ansible.cfg",
            "HOME": self.folder,
            "LOCAL_TEMP": self.folder / "tmp",
            "NOCOLOR": "1",
            "SSH_CONTROL_PATH_DIR": self.folder / "cp",
        }
        return os.environ | {f"ANSIBLE_{name}": str(value) for name, value in settings.items()}

    def _galaxy(self, *words):
        done = subprocess.run(["ansible-galaxy", "collection", *map(str, words)], env=self.environment, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def _inventory(self, nodes):
        common = {"ansible_user": "root", "ansible_python_interpreter": "/usr/bin/python3",
                  "ansible_ssh_common_args": " ".join(self._lab.ssh_options)}
        hosts = {node.name: {"ansible_host": str(node.address)} for node in nodes}
        path = self.folder / "inventory.json"  # JSON is valid YAML
        path.write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}))
        return path

    def _hang_up(self):
        """Ends the connections that ssh keeps: a later node with the same address is a different one."""
        for socket in (self.folder / "cp").glob("*"):
            with contextlib.suppress(FileNotFoundError):
                subprocess.run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "node"], check=False,
                               capture_output=True, timeout=20)

    def play(self, playbook, nodes, *options, **variables):
        """Runs a playbook of the collection, or one at a path; variables are extra vars."""
        record = self.folder / f"record-{next(self._runs)}"
        name = playbook if isinstance(playbook, Path) else f"holdfast.gpu.{playbook}"
        command = [*self._lab.prefix, "ansible-playbook", f"--inventory={self._inventory(nodes)}", *options,
                   f"--extra-vars={json.dumps(variables, default=str)}", name]
        with timed("ansible-playbook"):
            done = subprocess.run(command, env=self.environment | {"HOLDFAST_TEST_RECORD": str(record)}, check=False,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_SEC)
            self._hang_up()
        return Run(done, record)

    def apply(self, playbook, nodes, *options, **variables):
        """Runs a playbook, which must succeed."""
        run = self.play(playbook, nodes, *options, **variables)
        assert run.status == 0, run.text
        return run
