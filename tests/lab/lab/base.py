# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The root file system that all nodes are laid over: this machine's release, made by mmdebstrap once and kept.

It is made again when what decides about it changes: the packages, or this file.
"""

import hashlib
import platform
import shutil
import subprocess
from pathlib import Path

from . import cache
from .clock import timed

# What a node needs; what the daemon, the command and the simulator are linked with; what tests call in a node.
PACKAGES = (
    "apparmor", "systemd", "systemd-sysv", "dbus", "udev", "kmod", "openssh-server", "libpam-systemd",
    "fuse3", "libcap-ng0", "libevent-core-2.1-7|libevent-core-2.1-7t64", "libfuse3-3|libfuse3-4", "libinih1",
    "libjansson4", "libudev1",
    "apt-utils", "iproute2", "libtirpc3|libtirpc3t64", "procps", "python3", "strace",
)
# For lab.node(packages=...): what operators run on their nodes. Slurm's services wait for a slurm.conf; python3-apt is
# for Ansible's package modules.
FLEET = ("munge", "prometheus-node-exporter", "python3-apt", "slurm-client", "slurmctld", "slurmd")
# Of a machine's life, not of a node's: they would only wake it up.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
          "e2scrub_reap.service", "fstrim.timer", "console-getty.service", "getty.target", "motd-news.timer")
TREE = Path(__file__).resolve().parent / "tree"


def sources():
    """This machine's own apt sources: those of its distribution."""
    folder = Path("/etc/apt")
    names = ("sources.list.d/debian.sources", "sources.list.d/ubuntu.sources", "sources.list")
    found = [folder / name for name in names if (folder / name).exists()]
    assert found, f"no apt sources in {folder} ({', '.join(names)}): the lab is made from this machine's distribution"
    return found[0]


def known(name):
    return subprocess.run(["apt-cache", "show", "--quiet", name], capture_output=True, check=False).returncode == 0


def choose(alternatives):
    """Of "a|b" the first that this release has."""
    names = alternatives.split("|")
    return names[0] if len(names) == 1 else next((name for name in names if known(name)), names[0])


def prepare(root):
    """What makes a root file system a node's: no name or id of its own, no way to the outside, the lab's own files."""
    for name in ("etc/hostname", "etc/apt/sources.list"):
        (root / name).unlink(missing_ok=True)
    for source in (root / "etc/apt/sources.list.d").iterdir():
        source.unlink()
    shutil.copytree(TREE, root, dirs_exist_ok=True)
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (root / "var/log/journal").mkdir(exist_ok=True)


def make(root, packages):
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    chosen = ",".join(choose(package) for package in packages)
    # In a mount namespace of its own: were it killed, its mounts of /proc and /dev would stay below the folder, and be
    # there when that is removed.
    command = ["unshare", "--mount", "--propagation=private",
               "mmdebstrap", "--quiet", "--variant=minbase", f"--include={chosen}", release, root, sources()]
    with timed("root file system (mmdebstrap)"):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"mmdebstrap could not make the nodes' root file system:\n{done.stderr}"
    prepare(root)


def used(packages=()):
    """For a with statement: the root file system with PACKAGES and these besides. Never to be written to."""
    # Each set of packages is a kind of its own: making one does not throw the others away.
    kind = "+".join(("base", *sorted(packages)))
    packages = (*PACKAGES, *packages)
    decides = hashlib.sha256(repr((sorted(packages), platform.freedesktop_os_release())).encode())
    for file in (Path(__file__), *sorted(path for path in TREE.rglob("*") if path.is_file())):
        decides.update(file.read_bytes())
    return cache.kept(kind, decides, lambda root: make(root, packages))
