# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Another release of Debian in a folder, with what `scripts/setup` installs there, to build and test in.

A command runs as root in namespaces of its own (mounts, processes). It finds this checkout at its own path, and this
machine's /dev and /sys; what it writes outside of the checkout, or into the folders of builds, is forgotten.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from . import archive, base, cache
from .clock import timed

TOP = Path(__file__).resolve().parent.parent.parent.parent
SETUP = TOP / "scripts/setup"
SETS = ("build", "test", "lint", "deb", "demo")
PACKAGES = ("ca-certificates", "git", "iproute2", "kmod", "passwd", "python3", "tzdata")

# ROOT CHECKOUT FOLDER... -- COMMAND: the folders are there, too. pivot_root: in a chroot the kernel refuses new user
# namespaces, which the simulator and the tests need.
ENTER = """
mount -t tmpfs -o size=60% holdfast /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" holdfast /mnt/root
cd /mnt/root
shift
checkout=$1
while [ "$1" != -- ]; do
        mkdir -p ".$1"
        mount --rbind "$1" ".$1"
        shift
done
shift
for build in build build-release build-lint-gcc build-lint-clang; do
        mkdir -p "$checkout/$build" /mnt/$build
        mount --bind /mnt/$build ".$checkout/$build"
done
mkdir old
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
cp --remove-destination --dereference /etc/resolv.conf etc/resolv.conf 2>/dev/null || :
pivot_root . old
cd "$checkout"
umount -l /old
rmdir /old
exec "$@"
"""


def folders():
    """The checkout, and what git has elsewhere of a further worktree."""
    done = subprocess.run(["git", "-C", TOP, "-c", f"safe.directory={TOP}", "rev-parse", "--git-common-dir"],
                          capture_output=True, text=True, check=False)
    common = (TOP / done.stdout.strip()).resolve()
    return [TOP] if done.returncode != 0 or common.is_relative_to(TOP) else [TOP, common]


def command(root, shared, *words):
    """The command line that runs the words in that root, with the folders SHARED."""
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private",
            "sh", "-euc", ENTER, "sh", root, *folders(), *shared, "--", *words]


ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
PASSED_ON = ("CI", "DEB_BUILD_OPTIONS", "TERM", "TESTS")


def environment():
    """What a command there gets of this machine's."""
    return ENVIRONMENT | {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def make(root, release):
    base.debootstrap(root, release, PACKAGES)
    for file in (root / "etc/apt/sources.list.d").glob("*"):
        file.unlink()
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    (root / "etc/apt/sources.list.d/lab.sources").write_text(archive.source(release))
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy(SETUP, root / "tmp/setup")
    with timed("root file systems (scripts/setup)"):
        done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private",
                               "sh", "-euc", 'mount --bind "$0" "$0"; mount -t proc proc "$0/proc"; '
                               'mount --rbind /dev "$0/dev"; exec chroot "$0" /tmp/setup "$@"', root, *SETS],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, f"scripts/setup {' '.join(SETS)} fails in {release}:\n{done.stdout}{done.stderr}"
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)


def used(release):
    """For a with statement: the root's folder. Never to be written to."""
    decides = hashlib.sha256(repr((release, PACKAGES, SETS)).encode() + SETUP.read_bytes())
    return cache.kept(f"build-{release}", decides, lambda root: make(root, release))


def run(release, *words, shared=(), **how):
    """Runs a command there, which sees the folders SHARED of this machine, too. As subprocess.run()."""
    with used(release) as root:
        return subprocess.run(list(map(str, command(root, shared, *words))), env=environment(), **{"check": False} | how)
