# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The virtual machine's kernel: Debian's for clouds, as apt has it now, and modules of our own."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from lab import cache
from lab.clock import timed
from lab.lab import TOP

PACKAGE = "linux-image-cloud-amd64"
SOURCE = Path(__file__).resolve().parent.parent / "module"


def run(command, **how):
    """A program's output; fails with what it said."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, check=False, **how)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout


def depends(package, pattern):
    """Of the packages that it depends on, those whose names have the pattern; none where apt knows no such package."""
    done = subprocess.run(["apt-cache", "depends", package], capture_output=True, text=True, check=False)
    return re.findall(rf"^  Depends: ({pattern})$", done.stdout, re.MULTILINE)


def release():
    """Of the kernel that PACKAGE is today: "6.1.0-56-cloud-amd64". None where there is no such package."""
    images = depends(PACKAGE, r"linux-image-\S+")
    return images[0].removeprefix("linux-image-") if images else None


def unpack(folder, packages):
    """Packages' files below a folder."""
    folder.mkdir(parents=True)
    # As root: apt's own user must not need a way into the cache.
    run(["apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", *packages], cwd=folder)
    for archive in folder.glob("*.deb"):
        run(["dpkg-deb", "--extract", archive, folder])
        archive.unlink()


def unpack_image(folder, version):
    """The kernel: boot/vmlinuz-VERSION and lib/modules/VERSION."""
    unpack(folder, [f"linux-image-{version}"])
    run(["depmod", "--basedir", folder, version])


def unpack_headers(folder, version):
    """What modules are built with; returns where."""
    name = f"linux-headers-{version}"
    unpack(folder, [name, *depends(name, r"linux-(?:headers|kbuild)-\S+")])
    makefile = folder / "usr/src" / name / "Makefile"
    makefile.write_text(makefile.read_text().replace("include /usr/src", f"include {folder}/usr/src"))
    return makefile.parent


def module_files(folder, version, names):
    """The files of these modules and of what they need, in the order in which they load."""
    found = []
    for name in names:
        lines = run(["modprobe", "--dirname", folder, "--set-version", version, "--show-depends", name]).decode()
        found += [Path(line.split()[1]) for line in lines.splitlines() if line.startswith("insmod")]
    return list(dict.fromkeys(found))


def make_modules(folder, version, drivers):
    with timed("kernel headers (download, unpack)"):
        headers = unpack_headers(folder / "headers", version)
    with timed("kernel modules (gcc)"):
        for driver in drivers:
            shutil.copytree(SOURCE, folder / driver)
            run(["make", "-C", headers, f"M={folder / driver}", f"SOURCE={TOP}", f"DRIVER_VERSION={driver}", "modules"])
    shutil.rmtree(folder / "headers")


def modules(version, drivers):
    """For a with statement: a folder with DRIVER/*.ko, what is made of module/ for each driver's version."""
    decides = hashlib.sha256(f"{version} {drivers}".encode())
    for file in (*sorted(path for path in SOURCE.rglob("*") if path.is_file()), TOP / "src/gpu/abi.h"):
        decides.update(file.read_bytes())
    return cache.kept("modules", decides, lambda folder: make_modules(folder, version, drivers))
