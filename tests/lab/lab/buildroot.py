# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Another release of Debian in a folder, with the packages that `scripts/setup` installs there, for builds and tests.

A command runs as root in its own namespaces (mounts, processes). It has this checkout at the same path, and this machine's
/dev and /sys. Files that it writes outside the checkout, or into folders of builds, are discarded.
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

# Arguments: ROOT CHECKOUT FOLDER... -- COMMAND. The command sees the folders, too. pivot_root instead of chroot, because the
# kernel refuses new user namespaces in a chroot, and the simulator and the tests need them.
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
    """Returns the checkout, and for a linked worktree the repository that it belongs to."""
    done = subprocess.run(["git", "-C", TOP, "-c", f"safe.directory={TOP}", "rev-parse", "--git-common-dir"],
                          capture_output=True, text=True, check=False)
    common = (TOP / done.stdout.strip()).resolve()
    return [TOP] if done.returncode != 0 or common.is_relative_to(TOP) else [TOP, common]


def command(root, shared, *words):
    """Returns the command line that runs the words in that root, with the folders SHARED."""
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private",
            "sh", "-euc", ENTER, "sh", root, *folders(), *shared, "--", *words]


ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
PASSED_ON = ("CI", "DEB_BUILD_OPTIONS", "TERM", "TESTS")


def environment():
    """Returns the environment of a command there."""
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
    """For a with statement: the root's folder. It must not be written to."""
    decides = hashlib.sha256(repr((release, PACKAGES, SETS)).encode() + SETUP.read_bytes())
    return cache.kept(f"build-{release}", decides, lambda root: make(root, release))


def run(release, *words, shared=(), **how):
    """Runs a command there as subprocess.run() does. The command also sees this machine's folders SHARED."""
    with used(release) as root:
        return subprocess.run(list(map(str, command(root, shared, *words))), env=environment(), **{"check": False} | how)
