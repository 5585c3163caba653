# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The root file systems that nodes are laid over: Debian 12 and 13, made by mmdebstrap once and kept.

It is made again when what decides about it changes: the packages, or this file.
"""

import hashlib
import platform
import shutil
import subprocess
from pathlib import Path

from . import archive, cache
from .clock import timed

# What a node needs; what the daemon, the command and the simulator are linked with; what tests call in a node.
PACKAGES = (
    "apparmor", "systemd", "systemd-sysv", "dbus", "udev", "kmod", "openssh-server", "libpam-systemd",
    "fuse3", "libcap-ng0", "libevent-core-2.1-7t64|libevent-core-2.1-7", "libfuse3-4|libfuse3-3", "libinih1",
    "libjansson4", "libudev1",
    "apt-utils", "iproute2", "libtirpc3t64|libtirpc3", "procps", "python3", "strace",
)
# For lab.node(packages=...): what operators run on their nodes. Slurm's services wait for a slurm.conf; python3-apt is
# for Ansible's package modules.
FLEET = ("munge", "prometheus-node-exporter", "python3-apt", "slurm-client", "slurmctld", "slurmd")
# Of a machine's life, not of a node's: they would only wake it up.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
          "e2scrub_reap.service", "fstrim.timer", "console-getty.service", "getty.target", "motd-news.timer")
TREE = Path(__file__).resolve().parent / "tree"


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


def debootstrap(root, release, packages):
    """Debian, in a folder. PACKAGES: further ones, "a|b" being the first that the release has."""
    with cache.locked("apt"):
        suite = archive.Suite(release).update()
        chosen = ",".join(suite.choose(package) for package in packages)
    # In a mount namespace of its own: were it killed, its mounts of /proc and /dev would stay below the folder, and be
    # there when that is removed.
    command = ["unshare", "--mount", "--propagation=private",
               "mmdebstrap", "--quiet", "--variant=minbase", f"--include={chosen}", release, root, suite.file]
    with timed("root file systems (mmdebstrap)"):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"mmdebstrap could not make a root file system of {release}:\n{done.stderr}"


def make(root, release, packages):
    debootstrap(root, release, packages)
    prepare(root)


def used(packages=(), release=archive.OWN):
    """For a with statement: the root file system with PACKAGES and these besides. Never to be written to."""
    # Each set of packages is a kind of its own: making one does not throw the others away.
    kind = "+".join((f"base-{release}", *sorted(packages)))
    packages = (*PACKAGES, *packages)
    decides = hashlib.sha256(repr((sorted(packages), platform.freedesktop_os_release())).encode())
    for file in (Path(__file__), *sorted(path for path in TREE.rglob("*") if path.is_file())):
        decides.update(file.read_bytes())
    return cache.kept(kind, decides, lambda root: make(root, release, packages))
