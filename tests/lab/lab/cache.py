# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The cache outside the checkout: root file systems that several runs of the lab share, with a lock for each."""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "holdfast/lab"


def is_at(path, fd):
    """Whether the path still leads to the open file."""
    try:
        return path.stat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(name, *, shared=False, wait=True):
    """A lock by name among all labs of this machine. Yields whether the lock was obtained; with WAIT it always is."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.lock"
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
                had = True
            except BlockingIOError:
                had = False
            if had and not is_at(path, fd):
                continue  # another lab removed the file before we had the lock
            yield had
            return
        finally:
            os.close(fd)


def remove_unused(prefix, keep):
    """Removes the folders with that prefix, except `keep` and those that a lab has locked."""
    for folder in FOLDER.glob(f"{prefix}*"):
        if folder.suffix == ".lock" or folder.name == keep or not folder.is_dir():
            continue
        with locked(folder.name, wait=False) as ours:
            if ours:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def kept(kind, decides, make):
    """The folder for this content. Its name is KIND and the digest of the hash object DECIDES. If the folder is missing, kept()
    removes other folders of the kind that no lab uses, and calls make(folder). The folder must not be written to."""
    folder = FOLDER / f"{kind}-{decides.hexdigest()[:16]}"
    with locked(folder.name, shared=True):
        with locked(f"making-{folder.name}"):
            if not folder.exists():
                remove_unused(f"{kind}-", keep=folder.name)
                unfinished = FOLDER / f"making-{folder.name}"
                shutil.rmtree(unfinished, ignore_errors=True)
                make(unfinished)
                unfinished.rename(folder)
        yield folder


@contextlib.contextmanager
def scratch(name="lab"):
    """A folder for this process alone. A process can have one for each NAME. Also removes folders of killed processes."""
    for lock in FOLDER.glob("run-*.lock"):
        with locked(lock.stem, wait=False) as ours:
            if ours:
                shutil.rmtree(FOLDER / lock.stem, ignore_errors=True)
                lock.unlink()
    folder = FOLDER / f"run-{os.getpid()}-{name}"
    with locked(folder.name):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
            Path(f"{folder}.lock").unlink()
