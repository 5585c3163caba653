# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The virtual machine's kernel: Debian's current cloud kernel, and our own modules."""

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
    """Runs a program, which must succeed; returns its output."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, check=False, **how)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout


def depends(package, pattern):
    """Returns the dependencies of a package whose names match the pattern, or an empty list if apt has no such package."""
    done = subprocess.run(["apt-cache", "depends", package], capture_output=True, text=True, check=False)
    return re.findall(rf"^  Depends: ({pattern})$", done.stdout, re.MULTILINE)


def release():
    """Returns the release of PACKAGE's current kernel, such as "6.1.0-56-cloud-amd64", or None if there is no package."""
    images = depends(PACKAGE, r"linux-image-\S+")
    return images[0].removeprefix("linux-image-") if images else None


def unpack(folder, packages):
    """Downloads packages and unpacks them into a folder."""
    folder.mkdir(parents=True)
    # As root, because apt's own user has no access to the cache.
    run(["apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", *packages], cwd=folder)
    for archive in folder.glob("*.deb"):
        run(["dpkg-deb", "--extract", archive, folder])
        archive.unlink()


def unpack_image(folder, version):
    """Unpacks the kernel: boot/vmlinuz-VERSION and lib/modules/VERSION."""
    unpack(folder, [f"linux-image-{version}"])
    run(["depmod", "--basedir", folder, version])


def unpack_headers(folder, version):
    """Unpacks the headers for building modules; returns their folder."""
    name = f"linux-headers-{version}"
    unpack(folder, [name, *depends(name, r"linux-(?:headers|kbuild)-\S+")])
    makefile = folder / "usr/src" / name / "Makefile"
    makefile.write_text(makefile.read_text().replace("include /usr/src", f"include {folder}/usr/src"))
    return makefile.parent


def module_files(folder, version, names):
    """Returns the files of these modules and of their dependencies, in the order of loading."""
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
    """For a with statement: a folder with DRIVER/*.ko, built from module/ for each version of the driver."""
    decides = hashlib.sha256(f"{version} {drivers}".encode())
    for file in (*sorted(path for path in SOURCE.rglob("*") if path.is_file()), TOP / "src/gpu/abi.h"):
        decides.update(file.read_bytes())
    return cache.kept("modules", decides, lambda folder: make_modules(folder, version, drivers))
