# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Packages of any release and component of this machine's archive. The lab uses apt with its own sources, lists and archives
in its cache, so the system's sources stay unchanged.

The archive's address and signing key come from this machine's own sources.
"""

import platform
import re
import subprocess
from pathlib import Path

from . import cache

WITHOUT_UPDATES = ("experimental", "sid")
OWN = platform.freedesktop_os_release()["VERSION_CODENAME"]


class Unavailable(Exception):
    """One sentence: the archive does not have the package, or does not answer."""


def sources():
    """Returns the file with the apt sources of this machine's distribution."""
    folder = Path("/etc/apt")
    names = ("sources.list.d/debian.sources", "sources.list.d/ubuntu.sources", "sources.list")
    found = [folder / name for name in names if (folder / name).exists()]
    if not found:
        raise Unavailable(f"{folder} has none of {', '.join(names)}, so the archive's address is not known.")
    return found[0]


def stanzas(text):
    """Yields the entries of a deb822 file as dictionaries, without comments."""
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        fields = dict(line.split(":", 1) for line in lines if ":" in line and not line[0].isspace())
        if fields:
            yield {name.lower(): value.strip() for name, value in fields.items()}


def lines_as_stanzas(text):
    """Does the same for a file with one entry on each line: deb [options] URI SUITE COMPONENT..."""
    for options, uri, suite, components in re.findall(r"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)(.*)", text, re.MULTILINE):
        signed = re.search(r"signed-by=(\S+)", options)
        yield {"uris": uri, "suites": suite, "components": components.strip(), **({"signed-by": signed[1]} if signed else {})}


def entries():
    """Returns this machine's entries for its own release, its updates and backports."""
    file = sources()
    read = stanzas if file.suffix == ".sources" else lines_as_stanzas
    found = [entry for entry in read(file.read_text()) if re.search(rf"\b{OWN}\b", entry["suites"])]
    if not found:
        raise Unavailable(f"{file} has no entry for {OWN}, so the archive's address is not known.")
    return found


def source(release, components=()):
    """Returns the text of an apt source: this machine's entries for another release, and with other components if any are
    named. Parts of a release (bookworm-backports) and releases to come (sid) have no updates."""
    texts = []
    for entry in entries():
        suites = re.sub(rf"\b{OWN}\b", release, entry["suites"])
        if "-" in release or release in WITHOUT_UPDATES:
            suites = release if OWN in entry["suites"].split() else ""
        if not suites:
            continue
        signed = f"Signed-By: {entry['signed-by']}\n" if "signed-by" in entry else ""
        chosen = " ".join(components) or entry["components"]
        texts.append(f"Types: deb\nURIs: {entry['uris']}\nSuites: {suites}\nComponents: {chosen}\n{signed}")
    return "\n".join(texts)


class Suite:
    """A release as apt sees it with the lab's own configuration. Callers must hold cache.locked("apt")."""

    def __init__(self, release, components=()):
        self.name = release
        self.folder = cache.FOLDER / "-".join(("apt", release, *components))
        for folder in ("lists/partial", "cache/archives/partial"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "lab.sources"
        self.file.write_text(source(release, components))

    def run(self, program, *words, settings=None, **how):
        """Runs apt-get or apt-cache with additional settings."""
        settings = {"APT::Sandbox::User": "root", "Dir::Etc::sourcelist": self.file, "Dir::Etc::sourceparts": "/dev/null",
                    "Dir::State::lists": self.folder / "lists", "Dir::Cache": self.folder / "cache"} | (settings or {})
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return subprocess.run([program, *options, "-q", *words], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False, **how)

    def update(self):
        """Updates the lists. If the archive does not answer, the previous lists stay in use."""
        self.run("apt-get", "update")
        return self

    def version(self, name):
        """Returns the version of a package, or None if the release does not have it."""
        found = re.search(r"^Version: (\S+)$", self.run("apt-cache", "show", "--no-all-versions", name).stdout, re.MULTILINE)
        return found[1] if found else None

    def choose(self, alternatives):
        """Returns the first package of "a|b" that this release has."""
        names = alternatives.split("|")
        return names[0] if len(names) == 1 else next((name for name in names if self.version(name)), names[0])

    def download(self, folder, *packages):
        """Unpacks packages (NAME or NAME=VERSION) into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        done = self.run("apt-get", "download", *packages, cwd=folder)
        if done.returncode != 0:
            raise Unavailable(f"{' '.join(packages)} cannot be downloaded: {done.stderr.strip()}")
        for file in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", file, folder], check=True)
            file.unlink()
