# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Debian's packages of NVIDIA's programs and libraries: simulated installations of all of them, and a repository of some for
a node. apt downloads them with the lab's own sources; they are kept."""

import hashlib
import re
from pathlib import Path

from lab import archive, base, cache
from lab.clock import timed

COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
NAMES = ("libcuda1", "nvidia-persistenced", "nvidia-smi")
REPOSITORY = "/srv/repository"  # on a node


def suite(release):
    return archive.Suite(release, COMPONENTS)


def simulate(release, status, *words):
    """Returns what `apt-get WORDS...` would do on a machine with that dpkg status: lines with Inst, Remv, Conf."""
    with cache.locked("apt"):
        done = suite(release).update().run("apt-get", "--simulate", *words, settings={"Dir::State::status": status})
    assert done.returncode == 0, f"apt-get {' '.join(words)}: {done.stdout[-2000:]}{done.stderr}"
    return done.stdout.splitlines()


def _download(folder, release, root):
    (folder / "partial").mkdir(parents=True)
    with timed("NVIDIA's packages (download)"):
        done = suite(release).run("apt-get", "install", "--yes", "--download-only", "--no-install-recommends", *NAMES,
                                  settings={"Dir::State::status": root / "var/lib/dpkg/status",
                                            "Dir::Cache::archives": folder})
    if done.returncode != 0:
        raise archive.Unavailable(f"{', '.join(NAMES)} of {release} cannot be downloaded: {done.stderr.strip()}")
    for name in ("partial", "lock"):
        path = folder / name
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def used(release):
    """For a with statement: a folder with the .deb files of NAMES and of their dependencies."""
    with base.used((), release) as root, cache.locked("apt"):
        wanted = suite(release).update().run("apt-get", "install", "--print-uris", "--yes", "--no-install-recommends", *NAMES,
                                             settings={"Dir::State::status": root / "var/lib/dpkg/status"}).stdout
        decides = hashlib.sha256(repr(re.findall(r"^'\S+' (\S+)", wanted, re.MULTILINE)).encode())
    return cache.kept(f"nvidia-packages-{release}", decides, lambda folder: _make(folder, release))


def _make(folder, release):
    with base.used((), release) as root, cache.locked("apt"):
        _download(folder, release, root)


def offer(node, folder, *files):
    """Makes a folder's packages and these files the only archive for apt on a node."""
    for file in (*sorted(Path(folder).glob("*.deb")), *files):
        node.put(file, f"{REPOSITORY}/{file.name}")
    node.exec(f"cd {REPOSITORY} && apt-ftparchive packages . >Packages", timeout=120)
    node.write("/etc/apt/sources.list", f"deb [trusted=yes] file:{REPOSITORY} ./\n")
    node.exec("apt-get", "update")


def apt(node, *words):
    """Runs apt-get on a node as an administrator does, with recommended packages."""
    return node.exec("apt-get", "--yes", "--option=Dpkg::Use-Pty=0", *words,
                     environment={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
