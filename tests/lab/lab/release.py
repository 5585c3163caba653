# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The parts of nodes of one release of Debian: root file systems, and Holdfast for that release.

Nodes of this machine's release get the build. For another release, the Debian packages are built on that release
(buildroot.py), and nodes get the packages' files.
"""

import os
import subprocess
from pathlib import Path

from . import archive, base, buildroot, cache
from .clock import timed
from .packages import Packages


class Release:
    def __init__(self, stack, folder, name):
        self.name = name
        self._stack = stack
        self._folder = folder
        self._bases = {}
        self._packages = None

    def base(self, packages):
        """Returns the root file system with these additional packages."""
        if packages not in self._bases:
            self._bases[packages] = self._stack.enter_context(base.used(packages, self.name))
        return self._bases[packages]

    def _build_packages(self, folder):
        """Builds our Debian packages on that release."""
        raise NotImplementedError

    def _make_packages(self, built):
        making = built.parent / f"making-{self.name}"
        making.mkdir(parents=True, exist_ok=True)
        self._build_packages(making)
        making.rename(built)

    @property
    def packages(self):
        """Our Debian packages, built once."""
        if self._packages is None:
            # HOLDFAST_DEBS: a folder with packages that are already built, in a subfolder for each release.
            built = Path(os.environ.get("HOLDFAST_DEBS", self._folder / "deb"), self.name)
            with cache.locked("deb"):  # other workers use the same folder
                if not built.exists():
                    with timed(f"packages of {self.name} (scripts/deb)"):
                        self._make_packages(built)
            self._packages = Packages(self._folder / f"packages-{self.name}", built, lambda: self.daemon)
        return self._packages


class OwnRelease(Release):
    """This machine's release."""

    def __init__(self, stack, folder, build):
        super().__init__(stack, folder, archive.OWN)
        self._build = build
        self._installation = None

    @property
    def installation(self):
        """The folder in which the build is installed, once."""
        if self._installation is None:
            self._installation = self._folder / "installation"
            with timed("meson install"):
                done = subprocess.run([os.environ.get("MESON", "meson"), "install", "--no-rebuild", "--quiet", "-C", self._build,
                                       "--destdir", self._installation], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"cannot install {self._build}: {done.stdout}{done.stderr}"
        return self._installation

    @property
    def simulator(self):
        return self._build / "sim/holdfast-sim"

    @property
    def daemon(self):
        return self._build / "src/daemon/nvidia-persistenced"

    def _build_packages(self, folder):
        subprocess.run([buildroot.TOP / "scripts/deb", folder], check=True,
                       env=os.environ | {"DEB_BUILD_OPTIONS": "nocheck parallel=2"})


class OtherRelease(Release):
    """Another release from the same archive."""

    @property
    def installation(self):
        """The folder with the packages' files."""
        folder = self._folder / f"installation-{self.name}"
        if not folder.exists():
            for package in self.packages.binaries:
                subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
        return folder

    @property
    def simulator(self):
        return self.installation / "usr/bin/holdfast-sim"

    @property
    def daemon(self):
        return self.installation / "usr/libexec/holdfast/nvidia-persistenced"

    def _build_packages(self, folder):
        done = buildroot.run(self.name, "env", "DEB_BUILD_OPTIONS=nocheck parallel=2", "scripts/deb", folder, shared=[folder.parent],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, f"scripts/deb fails in {self.name}:\n{done.stdout[-4000:]}{done.stderr}"
