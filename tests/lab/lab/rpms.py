# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The RPM packages for nodes: ours as scripts/rpm builds them, and stand-ins for those of a distribution and of NVIDIA.

A node with base.DNF runs Debian, with Debian's dnf. The package "distribution" has no files, and stands for everything that ours
require. The stand-ins for NVIDIA's packages exist in two versions, OLD and NEW. In each version there are two packages: the
daemon, and a driver that requires the daemon of exactly this version.
"""

import os
import subprocess
from pathlib import Path

from . import base
from .clock import timed
from .lab import TOP
from .packages import DRIVERS_UNIT, run

FOLDER = "/root"  # in a node, for our packages
REPOSITORY = "/root/repository"
BOTH = "./holdfast-[0-9]*.rpm ./holdfast-nvidia-persistenced-*.rpm"
OLD, NEW = "595.45.04", "595.71.05"  # of the driver
EMPTY = "%description\nstand-in\n%files\n"

# The scripts do the same as RHEL's macros for units. Debian lacks these macros; there, our spec file imitates them, too.
NVIDIAS = """Epoch: 3
AutoReqProv: no
%description
stand-in
%install
install -D {program} %{{buildroot}}/usr/bin/nvidia-persistenced
install -D -m 644 {unit} %{{buildroot}}/usr/lib/systemd/system/nvidia-persistenced.service
%pre
getent passwd nvidia-persistenced >/dev/null || useradd --system nvidia-persistenced
%post
[ $1 -gt 1 ] || systemctl --no-reload preset nvidia-persistenced.service || :
%preun
[ $1 -gt 0 ] || systemctl --no-reload disable --now nvidia-persistenced.service || :
%files
/usr/bin/nvidia-persistenced
/usr/lib/systemd/system/nvidia-persistenced.service
"""
DRIVER = "Epoch: 3\nBuildArch: noarch\nRequires: nvidia-persistenced = 3:{version}\n" + EMPTY


def ours(lab):
    """Returns our packages by name. HOLDFAST_RPMS names a folder with packages that are already built."""
    folder = Path(os.environ.get("HOLDFAST_RPMS", lab.folder / "rpm"))
    if not folder.exists():
        with timed("packages (scripts/rpm)"):
            subprocess.run([TOP / "scripts/rpm", folder], check=True)
    return {run("rpm", "--query", "--queryformat=%{NAME}", "--package", file): file
            for file in folder.glob("*.rpm") if ".src." not in file.name}


def query(file, what):
    return set(run("rpm", "--query", "--package", f"--{what}", file).splitlines())


def build(folder, name, text, version="1"):
    """Builds a package from the text of a spec file, which begins with tags. Returns the file."""
    spec = folder / f"{name}-{version}.spec"
    spec.write_text(f"Name: {name}\nVersion: {version}\nRelease: 1\nSummary: stand-in\nLicense: none\n{text}")
    out = folder / f"{name}-{version}"
    run("rpmbuild", "-bb", "--define", f"_topdir {folder}/rpmbuild", "--define", f"_rpmdir {out}", spec)
    file, = out.rglob("*.rpm")
    return file


class Rpms:
    """Our packages, and a list of stand-ins for each version of the driver."""

    def __init__(self, lab, folder):
        self.ours = ours(lab)
        needed = {line for file in self.ours.values() for line in query(file, "requires")
                  if not line.startswith(("holdfast", "rpmlib("))}
        provides = "".join(f"Provides: {line}\n" for line in sorted(needed))
        (folder / "unit").write_text(DRIVERS_UNIT)
        self._folder = folder
        self._nvidias = NVIDIAS.format(program=lab.build / "src/daemon/nvidia-persistenced", unit=folder / "unit")
        self._stand_ins = {version: [self.with_nvidias_daemon("nvidia-persistenced", version),
                                     build(folder, "nvidia-driver-cuda", DRIVER.format(version=version), version)]
                           for version in (OLD, NEW)}
        self._stand_ins[OLD].append(build(folder, "distribution", f"BuildArch: noarch\n{provides}{EMPTY}"))

    def with_nvidias_daemon(self, name, version=OLD):
        """Builds a package of that name with NVIDIA's daemon and its unit."""
        return build(self._folder, name, self._nvidias, version)

    def prepare(self, node):
        """Prepares a node with base.DNF. It gets a repository with the older driver, and our packages' files. Its presets
        enable nothing, as RHEL's do."""
        node.write("/etc/systemd/system-preset/99-default-disable.preset", "disable *\n")
        node.write("/etc/yum.repos.d/lab.repo", f"[lab]\nname=lab\nbaseurl=file://{REPOSITORY}\ngpgcheck=0\n")
        self.publish(node, OLD)
        for file in self.ours.values():
            node.put(file, f"{FOLDER}/{file.name}")
        dnf(node, "install distribution")

    def publish(self, node, version):
        for file in self._stand_ins[version]:
            node.put(file, f"{REPOSITORY}/{file.name}")
        node.exec("createrepo_c", "--quiet", REPOSITORY)


def node(lab):
    """Makes a node with dnf and simulated GPUs."""
    return lab.node(packages=base.DNF).boot().simulate()


def try_dnf(node, words, answer="--assumeyes"):
    """Runs dnf in the folder with our packages, as docs/install.md says."""
    return node.try_exec("sh", "-c", f"cd {FOLDER} && exec dnf --releasever=9 {answer} {words}", timeout=120)


def dnf(node, words):
    done = try_dnf(node, words)
    assert done.status == 0, f"dnf {words}: {done.out}{done.err}"
    return done.out + done.err


def has(node, package):
    return try_dnf(node, f"list --installed {package}").status == 0
