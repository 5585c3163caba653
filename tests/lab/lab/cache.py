# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What outlives a run of the lab, outside of the checkout: root file systems. And who uses which of them."""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "holdfast/lab"


@contextlib.contextmanager
def locked(name, *, shared=False, wait=True):
    """A lock by name among all labs of this machine. Gives whether it was had, which it always is after a wait."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    fd = os.open(FOLDER / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
            had = True
        except BlockingIOError:
            had = False
        yield had
    finally:
        os.close(fd)


def remove_unused(prefix, keep):
    """Folders of that prefix which are not `keep` and which no lab has locked."""
    for folder in FOLDER.glob(f"{prefix}*"):
        if folder.suffix == ".lock" or folder.name == keep or not folder.is_dir():
            continue
        with locked(folder.name, wait=False) as ours:
            if ours:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def kept(kind, decides, make):
    """The folder of that kind for what decides about its content (a hash object); make(folder) makes it if it is not
    there. Those made for something else go, unless a lab uses them. Never to be written to."""
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
def scratch():
    """A folder for this process alone. Those that killed ones have left are removed."""
    for lock in FOLDER.glob("run-*.lock"):
        with locked(lock.stem, wait=False) as ours:
            if ours:
                shutil.rmtree(FOLDER / lock.stem, ignore_errors=True)
                lock.unlink()
    folder = FOLDER / f"run-{os.getpid()}"
    with locked(folder.name):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
            Path(f"{folder}.lock").unlink()
