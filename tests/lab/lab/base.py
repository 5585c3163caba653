# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The root file systems of nodes: Debian 12 and 13, made once by mmdebstrap and kept. A node's disk is an overlay over one.

A root file system is made again when the packages, this file or tree/ change.
"""

import hashlib
import platform
import shutil
import subprocess
from pathlib import Path

from . import archive, cache
from .clock import timed

# What a node needs, the libraries of daemon, command and simulator, and the programs that tests call in a node.
PACKAGES = (
    "apparmor", "systemd", "systemd-sysv", "dbus", "udev", "kmod", "openssh-server", "libpam-systemd",
    "fuse3", "libcap-ng0", "libevent-core-2.1-7t64|libevent-core-2.1-7", "libfuse3-4|libfuse3-3", "libinih1",
    "libjansson4", "libudev1",
    "apt-utils", "iproute2", "libtirpc3t64|libtirpc3", "procps", "python3", "strace",
)
# For lab.node(packages=...): what operators run on their nodes. Slurm's services wait for a slurm.conf; python3-apt is
# for Ansible's package modules.
FLEET = ("munge", "prometheus-node-exporter", "python3-apt", "slurm-client", "slurmctld", "slurmd")
# For lab.node(packages=...): what installs RPM packages, and makes a repository of them.
DNF = ("createrepo-c", "dnf", "rpm")
# Units for long-lived machines. On a node they would only use processor time.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
          "e2scrub_reap.service", "fstrim.timer", "console-getty.service", "getty.target", "motd-news.timer")
TREE = Path(__file__).resolve().parent / "tree"


def prepare(root):
    """Prepares a root file system for nodes: without a host name and apt sources, with the lab's own files."""
    for name in ("etc/hostname", "etc/apt/sources.list"):
        (root / name).unlink(missing_ok=True)
    for source in (root / "etc/apt/sources.list.d").iterdir():
        source.unlink()
    shutil.copytree(TREE, root, dirs_exist_ok=True)
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (root / "var/log/journal").mkdir(exist_ok=True)


def debootstrap(root, release, packages):
    """Installs Debian in a folder with additional PACKAGES. "a|b" stands for the first of them that the release has."""
    with cache.locked("apt"):
        suite = archive.Suite(release).update()
        chosen = ",".join(suite.choose(package) for package in packages)
    # In its own mount namespace: if mmdebstrap were killed, its mounts of /proc and /dev would otherwise stay in the
    # folder when that is removed.
    command = ["unshare", "--mount", "--propagation=private",
               "mmdebstrap", "--quiet", "--variant=minbase", f"--include={chosen}", release, root, suite.file]
    with timed("root file systems (mmdebstrap)"):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"mmdebstrap could not make a root file system of {release}:\n{done.stderr}"


def make(root, release, packages):
    debootstrap(root, release, packages)
    prepare(root)


def used(packages=(), release=archive.OWN):
    """For a with statement: the root file system with base.PACKAGES and these packages. It must not be written to."""
    # Each set of packages is a separate kind, so that making one does not remove the others.
    kind = "+".join((f"base-{release}", *sorted(packages)))
    packages = (*PACKAGES, *packages)
    decides = hashlib.sha256(repr((sorted(packages), platform.freedesktop_os_release())).encode())
    for file in (Path(__file__), *sorted(path for path in TREE.rglob("*") if path.is_file())):
        decides.update(file.read_bytes())
    return cache.kept(kind, decides, lambda root: make(root, release, packages))
