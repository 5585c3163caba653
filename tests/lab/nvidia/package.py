# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Debian's package of NVIDIA's open kernel modules, fetched with an apt configuration of the lab's own: sources, lists
and archives are in the lab's cache. The system's sources stay as they are, and get no further component."""

import platform
import re
import subprocess

from lab import base, cache

NAME = "nvidia-open-kernel-dkms"
COMPONENT = "contrib"
# Where each branch of the driver is, the first choice first.
SUITES = {"535": ("bookworm",), "550": ("trixie", "bookworm-backports")}


class Unavailable(Exception):
    """One sentence: the archive has no such package, or cannot be asked."""


def stanzas(text):
    """The entries of a deb822 file as dictionaries; comments are left out."""
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        fields = dict(line.split(":", 1) for line in lines if ":" in line and not line[0].isspace())
        if fields:
            yield {name.lower(): value.strip() for name, value in fields.items()}


def lines_as_stanzas(text):
    """The same of a file with an entry a line: deb [options] URI SUITE COMPONENT..."""
    for options, uri, suite in re.findall(r"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)", text, re.MULTILINE):
        signed = re.search(r"signed-by=(\S+)", options)
        yield {"uris": uri, "suites": suite, **({"signed-by": signed[1]} if signed else {})}


def archive():
    """This machine's entry for its own release: where its archive is, and which key signs it."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    file = base.sources()
    read = stanzas if file.suffix == ".sources" else lines_as_stanzas
    for entry in read(file.read_text()):
        if codename in entry["suites"].split():
            return entry
    raise Unavailable(f"{file} has no entry for {codename}, so the archive's address is not known.")


def source(suite):
    """The text of an apt source: that suite's COMPONENT in this machine's archive."""
    entry = archive()
    signed = f"Signed-By: {entry['signed-by']}\n" if "signed-by" in entry else ""
    return f"Types: deb\nURIs: {entry['uris']}\nSuites: {suite}\nComponents: {COMPONENT}\n{signed}"


class Suite:
    """One suite as apt sees it with the lab's own configuration. Whoever uses it holds cache.locked("apt")."""

    def __init__(self, name):
        self.name = name
        self._folder = cache.FOLDER / f"apt-{name}"
        for folder in ("lists/partial", "cache/archives/partial"):
            (self._folder / folder).mkdir(parents=True, exist_ok=True)
        (self._folder / "lab.sources").write_text(source(name))

    def _run(self, program, *words, cwd=None):
        settings = {"APT::Sandbox::User": "root", "Dir::Etc::sourcelist": self._folder / "lab.sources",
                    "Dir::Etc::sourceparts": "/dev/null", "Dir::State::lists": self._folder / "lists",
                    "Dir::Cache": self._folder / "cache"}
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return subprocess.run([program, *options, "-q", *words], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False, cwd=cwd)

    def update(self):
        """Asks the archive. If it does not answer, what it said the last time counts."""
        self._run("apt-get", "update")

    def version(self):
        """Of the package; None: the suite has none."""
        found = re.search(r"^Version: (\S+)$", self._run("apt-cache", "show", NAME).stdout, re.MULTILINE)
        return found[1] if found else None

    def download(self, version, folder):
        """Unpacks the package into a folder."""
        folder.mkdir(parents=True)
        done = self._run("apt-get", "download", f"{NAME}={version}", cwd=folder)
        if done.returncode != 0:
            raise Unavailable(f"{NAME} {version} cannot be downloaded: {done.stderr.strip()}")
        for file in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", file, folder], check=True)
            file.unlink()


def find(branch):
    """(suite, version): which package the archive has of that branch today."""
    for name in SUITES[branch]:
        suite = Suite(name)
        suite.update()
        version = suite.version()
        if version and version.split(".")[0] == branch:
            return suite, version
    raise Unavailable(f"{NAME} {branch} is not in {' or '.join(SUITES[branch])} ({COMPONENT}) of this machine's archive.")
