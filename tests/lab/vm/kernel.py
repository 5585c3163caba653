# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The virtual machine's kernel: Debian's for clouds, of the release whose headers are installed, and modules of our own."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from lab import cache
from lab.clock import timed
from lab.lab import TOP

HEADERS = Path("/usr/src")
FLAVOUR = "cloud-amd64"
SOURCE = Path(__file__).resolve().parent.parent / "module"


def run(command, **how):
    """A program's output; fails with what it said."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, check=False, **how)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout


def releases():
    """Of installed headers, the oldest first: ["6.1.0-56-cloud-amd64"]."""
    found = [path.name.removeprefix("linux-headers-") for path in HEADERS.glob(f"linux-headers-*-{FLAVOUR}")]
    return sorted(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def unpack(release, folder):
    """The kernel's package, unpacked: boot/vmlinuz-RELEASE and lib/modules/RELEASE."""
    folder.mkdir()
    # As root: apt's own user must not need a way into the cache.
    run(["apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", f"linux-image-{release}"], cwd=folder)
    archive, = folder.glob("linux-image-*.deb")
    run(["dpkg-deb", "--extract", archive, folder])
    archive.unlink()
    run(["depmod", "--basedir", folder, release])


def module_files(folder, release, names):
    """The files of these modules and of what they need, in the order in which they load."""
    found = []
    for name in names:
        lines = run(["modprobe", "--dirname", folder, "--set-version", release, "--show-depends", name]).decode()
        found += [Path(line.split()[1]) for line in lines.splitlines() if line.startswith("insmod")]
    return list(dict.fromkeys(found))


def make_modules(folder, release, versions):
    with timed("kernel modules (gcc)"):
        for version in versions:
            built = folder / version
            shutil.copytree(SOURCE, built)
            run(["make", "-C", HEADERS / f"linux-headers-{release}", f"M={built}", f"SOURCE={TOP}",
                 f"DRIVER_VERSION={version}", "modules"])


def modules(release, versions):
    """For a with statement: a folder with VERSION/gpus.ko and VERSION/nvidia.ko (module/) for each version."""
    decides = hashlib.sha256(f"{release} {versions}".encode())
    for file in (*sorted(path for path in SOURCE.rglob("*") if path.is_file()), TOP / "src/gpu/abi.h"):
        decides.update(file.read_bytes())
    return cache.kept("modules", decides, lambda folder: make_modules(folder, release, versions))
