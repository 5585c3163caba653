# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The Debian packages for nodes: ours as scripts/deb builds them, the same with a newer version, and stand-ins for a
driver's packages that contain NVIDIA's daemon."""

import shutil
import subprocess

FOLDER = "/root/packages"  # in a node

# Like the unit of Ubuntu's nvidia-compute-utils: a daemon that forks, started when the driver is loaded.
DRIVERS_UNIT = """[Unit]
Description=NVIDIA Persistence Daemon (stand-in)

[Service]
Type=forking
PIDFile=/run/nvidia-persistenced/nvidia-persistenced.pid
RemainAfterExit=yes
Environment=NVIDIA=1
ExecStartPre=/bin/true
ExecStart=/usr/bin/nvidia-persistenced --user nvidia-persistenced --persistence-mode --verbose
ExecStopPost=/bin/rm -rf /run/nvidia-persistenced

[Install]
WantedBy=multi-user.target
"""
DRIVERS_SCRIPTS = {
    "postinst": """#!/bin/sh
set -e
getent passwd nvidia-persistenced >/dev/null || useradd --system --no-create-home nvidia-persistenced
deb-systemd-helper enable nvidia-persistenced.service
systemctl daemon-reload
systemctl restart nvidia-persistenced.service
""",
    "prerm": "#!/bin/sh\n[ \"$1\" != remove ] || systemctl stop nvidia-persistenced.service\n",
    "postrm": "#!/bin/sh\nset -e\n[ \"$1\" != purge ] || deb-systemd-helper purge nvidia-persistenced.service\n"
              "[ \"$1\" = upgrade ] || systemctl daemon-reload\n",
}


CONTROL = "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n{fields}" \
          "Description: stand-in\n"


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}{done.stderr}"
    return done.stdout


def pack(tree, target):
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, target)
    return target


class Packages:
    def __init__(self, folder, built, daemon):
        """BUILT: the folder of our built packages. FOLDER: for the packages that this class makes. daemon(): returns the path of
        our daemon's program."""
        self.folder = folder
        self._built = built
        self._daemon = daemon
        folder.mkdir()

    def file(self, name):
        files = list(self._built.glob(f"{name}_*.deb"))
        assert len(files) == 1, f"{name}: {files} in {self._built}"
        return files[0]

    def version(self, name):
        return run("dpkg-deb", "--field", self.file(name), "Version").strip()

    @property
    def binaries(self):
        return [file for file in sorted(self._built.glob("*.deb")) if "-dbgsym_" not in file.name]

    def newer(self, name):
        """Makes the package with a higher version, also in its dependencies on our other packages."""
        version = self.version(name)
        target = self.folder / f"{name}_{version}+1.deb"
        if not target.exists():
            tree = self.folder / f"{name}+1"
            run("dpkg-deb", "--raw-extract", self.file(name), tree)
            control = tree / "DEBIAN/control"
            control.write_text(control.read_text().replace(version, f"{version}+1"))
            pack(tree, target)
        return target

    def drivers(self, name, *, version="595.45.04", fields=""):
        """Makes a driver's package with nvidia-persistenced and its unit. The program is a copy of ours under that name:
        for these tests only its behaviour matters."""
        tree = self.folder / f"{name}-{version}"
        for path, text in (("DEBIAN/control", CONTROL.format(name=name, version=version, fields=fields)),
                           ("lib/systemd/system/nvidia-persistenced.service", DRIVERS_UNIT),
                           *((f"DEBIAN/{script}", text) for script, text in DRIVERS_SCRIPTS.items())):
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        for script in DRIVERS_SCRIPTS:
            (tree / "DEBIAN" / script).chmod(0o755)
        (tree / "usr/bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(self._daemon(), tree / "usr/bin/nvidia-persistenced")
        return pack(tree, self.folder / f"{name}_{version}.deb")

    def empty(self, name, *, version, fields):
        """Makes a package without files."""
        tree = self.folder / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (tree / "DEBIAN/control").write_text(CONTROL.format(name=name, version=version, fields=fields))
        return pack(tree, self.folder / f"{name}_{version}.deb")


def install(node, *files):
    """Installs files with apt as an administrator does, without the network. apt removes conflicting packages."""
    for file in files:
        node.put(file, f"{FOLDER}/{file.name}")
    return node.exec("apt-get", "install", "--yes", "--allow-downgrades", "--no-install-recommends",
                     "--option=Dpkg::Use-Pty=0", *(f"{FOLDER}/{file.name}" for file in files),
                     environment={"DEBIAN_FRONTEND": "noninteractive"}, timeout=120)


def remove(node, *names, purge=False):
    node.exec("dpkg", "--purge" if purge else "--remove", *names)
