# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Runs the operator's command, holdfast."""

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema

from . import process

TOP = Path(__file__).resolve().parent.parent.parent.parent
BUILD = Path(os.environ.get("HOLDFAST_BUILD", TOP / "build")).resolve()
PROGRAM = BUILD / "src/cli/holdfast"


class Result:
    def __init__(self, completed):
        self.status = completed.returncode
        self.out = completed.stdout
        self.err = completed.stderr

    def json(self, schema):
        document = json.loads(self.out)
        jsonschema.validate(document, json.loads((TOP / f"docs/schemas/{schema}.json").read_text()))
        return document


def environment(**extra):
    clean = {key: value for key, value in os.environ.items() if key not in ("HOLDFAST_ROOT", "COLUMNS", "NO_COLOR")}
    return clean | process.SANITIZER_ENVIRONMENT | {"TZ": "UTC", "TERM": "xterm"} | extra


def holdfast(root, *arguments, program=None, timeout=30, stdout=subprocess.PIPE, user=None, **extra):
    program = program or PROGRAM
    assert program.exists(), f"{program} is not built; run make, or give HOLDFAST_BUILD"
    result = Result(subprocess.run([program, *(["--root", root] if root else []), *arguments], stdin=subprocess.DEVNULL,
                                   stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=timeout, check=False,
                                   env=environment(**extra), user=user, group=user, extra_groups=[] if user else None))
    assert not re.search(process.SANITIZER_FINDING, result.err), result.err
    return result


def commands():
    """The names of all commands, read from `holdfast --help`."""
    text = holdfast(None, "--help").out.split("Commands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  ([a-z]+) ", text, re.M)


class Job:
    """A process that has a GPU's node open. The test itself must not: the scripted daemon runs in the test's process."""

    def __init__(self, path, command=("cat",)):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[fd])
        os.close(fd)
        self.pid = self._process.pid
        self.name = f"cat({self.pid})"

    def end(self):
        self._process.stdin.close()
        assert self._process.wait(timeout=10) == 0


@contextlib.contextmanager
def opened(node, minor):
    job = Job(node.root / f"dev/nvidia{minor}")
    try:
        yield job
    finally:
        job.end()
