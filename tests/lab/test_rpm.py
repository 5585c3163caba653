# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The RPM packages: their files, what they provide and require, and dnf's transactions with them on nodes of Debian.

Such a node has Debian's dnf. A package "distribution" stands for what the distribution would provide, and there are packages
like NVIDIA's: its daemon, and a driver that requires exactly that version of the daemon.
"""

import os
import subprocess
from pathlib import Path

import pytest

from lab import base
from lab.clock import timed
from lab.lab import TOP
from lab.packages import DRIVERS_UNIT, run

# What drivers' packages require, with the architecture's name instead of %{_isa}: NVIDIA's and negativo17's
# nvidia-driver-cuda, RPM Fusion's xorg-x11-drv-nvidia-cuda, compat-nvidia-repo, openSUSE's nvidia-compute-G06.
REQUIRED = ("nvidia-persistenced = 3:610.43.03", "nvidia-persistenced{isa} = 3:595.71.05", "nvidia-persistenced >= 3:450.57",
            "nvidia-persistenced >= 580.95.05")
UNIT = "nvidia-persistenced.service"

pytestmark = pytest.mark.xdist_group("rpm")  # to build the packages once


@pytest.fixture(scope="session")
def rpms(lab):
    """The packages by name. HOLDFAST_RPMS names a folder with packages that are already built."""
    folder = Path(os.environ.get("HOLDFAST_RPMS", lab.folder / "rpm"))
    if not folder.exists():
        with timed("packages (scripts/rpm)"):
            subprocess.run([TOP / "scripts/rpm", folder], check=True)
    return {run("rpm", "--query", "--queryformat=%{NAME}", "--package", file): file
            for file in folder.glob("*.rpm") if ".src." not in file.name}


def query(file, what):
    return set(run("rpm", "--query", "--package", f"--{what}", file).splitlines())


def test_the_files_are_split_between_three_packages(rpms):
    assert set(rpms) == {"holdfast", "holdfast-nvidia-persistenced", "holdfast-sim"}
    files = {name: query(file, "list") for name, file in rpms.items()}
    assert {"/usr/bin/holdfast", "/usr/libexec/holdfast/nvidia-persistenced",
            "/usr/lib/systemd/system/holdfast.service", "/etc/holdfast", "/etc/holdfast/hooks.d"} < files["holdfast"]
    assert {"/usr/bin/nvidia-persistenced", "/usr/lib/systemd/system/nvidia-persistenced.service"} < \
        files["holdfast-nvidia-persistenced"]
    assert not files["holdfast"] & files["holdfast-nvidia-persistenced"]
    assert "/usr/bin/holdfast-sim" in files["holdfast-sim"]


def build(folder, name, text, version="1"):
    """Builds a package from the text of a spec file, which begins with tags. Returns the file."""
    spec = folder / f"{name}-{version}.spec"
    spec.write_text(f"Name: {name}\nVersion: {version}\nRelease: 1\nSummary: stand-in\nLicense: none\n{text}")
    out = folder / f"{name}-{version}"
    run("rpmbuild", "-bb", "--define", f"_topdir {folder}/rpmbuild", "--define", f"_rpmdir {out}", spec)
    file, = out.rglob("*.rpm")
    return file


EMPTY = "%description\nstand-in\n%files\n"


def unmet(folder, *files):
    """Returns the requirements that rpm does not find for these files on a machine without other packages."""
    done = subprocess.run(["rpm", "--upgrade", "--test", "--dbpath", folder / "db", *files], capture_output=True, text=True,
                          check=False)
    return [line.strip() for line in done.stderr.splitlines() if " is needed by " in line]


@pytest.mark.parametrize("required", REQUIRED)
def test_the_package_satisfies_requirements_of_nvidias_package_of_every_version(rpms, required, tmp_path):
    needed = required.format(isa=run("rpm", "--eval", "%{?_isa}").strip())
    theirs, ours = build(tmp_path, "driver", f"Requires: {needed}\n{EMPTY}"), rpms["holdfast-nvidia-persistenced"]
    assert unmet(tmp_path, theirs) == [f"{needed} is needed by driver-1-1.{run('rpm', '--eval', '%_arch').strip()}"]
    assert not [line for line in unmet(tmp_path, theirs, ours) if line.startswith("nvidia-persistenced")]
    assert "nvidia-persistenced" in query(ours, "conflicts")


def test_the_simulators_library_is_not_provided_as_nvidias(rpms):
    assert not [line for line in query(rpms["holdfast-sim"], "provides") if line.startswith("libnvidia")]


# ---- dnf's transactions ----------------------------------------------------------

OLD, NEW = "595.45.04", "595.71.05"  # of the driver
# As RHEL's macros for units, which our spec file also imitates where they are missing.
NVIDIAS_SPEC = """Epoch: 3
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
DRIVERS_SPEC = "Epoch: 3\nBuildArch: noarch\nRequires: nvidia-persistenced = 3:{version}\n" + EMPTY
REPOSITORY = "[lab]\nname=lab\nbaseurl=file:///root/repository\ngpgcheck=0\n"


@pytest.fixture(scope="module")
def repository(lab, rpms, tmp_path_factory):
    """A folder with a folder of packages for each version of the driver."""
    folder = tmp_path_factory.mktemp("repository")
    needed = {line for file in rpms.values() for line in query(file, "requires") if not line.startswith(("holdfast", "rpmlib("))}
    provides = "".join(f"Provides: {line}\n" for line in sorted(needed))
    (folder / "unit").write_text(DRIVERS_UNIT)
    nvidias = NVIDIAS_SPEC.format(program=lab.build / "src/daemon/nvidia-persistenced", unit=folder / "unit")
    packages = [(OLD, build(folder, "distribution", f"BuildArch: noarch\n{provides}{EMPTY}"))]
    for version in OLD, NEW:
        packages.append((version, build(folder, "nvidia-persistenced", nvidias, version)))
        packages.append((version, build(folder, "nvidia-driver-cuda", DRIVERS_SPEC.format(version=version), version)))
    for version, file in packages:
        (folder / "packages" / version).mkdir(parents=True, exist_ok=True)
        file.rename(folder / "packages" / version / file.name)
    return folder / "packages"


def publish(node, folder):
    for file in folder.iterdir():
        node.put(file, f"/root/repository/{file.name}")
    node.exec("createrepo_c", "--quiet", "/root/repository")


@pytest.fixture
def machine(lab, rpms, repository):
    """A node with dnf and RHEL's presets, which enable nothing. Our packages' files are in /root."""
    node = lab.node(packages=base.DNF).boot().simulate()
    node.write("/etc/systemd/system-preset/99-default-disable.preset", "disable *\n")
    node.write("/etc/yum.repos.d/lab.repo", REPOSITORY)
    publish(node, repository / OLD)
    for file in rpms.values():
        node.put(file, f"/root/{file.name}")
    dnf(node, "install distribution")
    yield node
    node.remove()


def try_dnf(node, words, answer="--assumeyes"):
    """Runs dnf as the pages say, in the folder with our packages."""
    return node.try_exec("sh", "-c", f"cd /root && exec dnf --releasever=9 {answer} {words}", timeout=120)


def dnf(node, words):
    done = try_dnf(node, words)
    assert done.status == 0, f"dnf {words}: {done.out}{done.err}"
    return done.out + done.err


def has(node, package):
    return try_dnf(node, f"list --installed {package}").status == 0


def enable(node):
    node.exec("systemctl", "enable", "--now", UNIT)
    node.gpus.wait_users(1, 1)


def main_pid(node):
    return node.exec("systemctl", "show", "--value", "--property=MainPID", UNIT).strip()


def program(node):
    return node.exec("readlink", f"/proc/{main_pid(node)}/exe").strip()


def teardowns(node):
    return [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]]


OURS = "/usr/libexec/holdfast/nvidia-persistenced"
BOTH = "./holdfast-[0-9]*.rpm ./holdfast-nvidia-persistenced-*.rpm"


def test_dnf_installs_replaces_and_removes_the_packages(machine):
    node = machine
    dnf(node, f"install {BOTH}")
    assert node.try_exec("systemctl", "is-enabled", UNIT).out == "disabled\n", "the distribution's presets decide"
    enable(node)
    assert program(node) == OURS and node.exec("ps", "-o", "user:32=", "-p", main_pid(node)).strip() == "nvidia-persistenced"
    assert node.try_exec("holdfast", "doctor").status == 0

    before = main_pid(node)
    said = dnf(node, f"reinstall {BOTH}")  # with the scripts of an upgrade
    assert "nvidia-persistenced.service was restarted; its GPUs stayed initialised" in said
    assert main_pid(node) not in ("0", before) and node.exec("systemctl", "is-enabled", UNIT) == "enabled\n"
    node.gpus.wait_users(1, 1)
    assert teardowns(node) == [0, 0]

    dnf(node, "remove holdfast holdfast-nvidia-persistenced")
    node.gpus.wait_released()
    assert not has(node, "holdfast") and node.try_exec("test", "-e", "/usr/bin/nvidia-persistenced").status == 1


@pytest.mark.parametrize("replace", [
    ("install ./holdfast-[0-9]*.rpm", "swap nvidia-persistenced ./holdfast-nvidia-persistenced-*.rpm"),
    (f"install --allowerasing {BOTH}",),
], ids=["swap", "allowerasing"])
def test_dnf_replaces_nvidias_package_below_a_driver_that_requires_it_and_goes_back(machine, repository, replace):
    node = machine
    dnf(node, "install nvidia-driver-cuda")
    enable(node)
    assert program(node) == "/usr/bin/nvidia-persistenced"
    assert "conflicts with nvidia-persistenced" in try_dnf(node, f"install {BOTH}").err

    for words in replace:
        dnf(node, words)
    enable(node)
    assert program(node) == OURS and has(node, "nvidia-driver-cuda") and not has(node, "nvidia-persistenced")
    assert "conflicts with nvidia-persistenced" in try_dnf(node, "install nvidia-persistenced").err

    before = main_pid(node)
    publish(node, repository / NEW)
    dnf(node, "upgrade --refresh")
    assert NEW in try_dnf(node, "list --installed nvidia-driver-cuda").out and main_pid(node) == before, "ours stays"

    said = try_dnf(node, "remove holdfast holdfast-nvidia-persistenced", answer="--assumeno").out
    assert "nvidia-driver-cuda" in said, "the removal would also remove the driver, as the pages warn"
    dnf(node, "swap holdfast-nvidia-persistenced nvidia-persistenced")
    assert node.try_exec("systemctl", "is-enabled", UNIT).out == "disabled\n", "the pages name the command that enables it"
    enable(node)
    dnf(node, "remove holdfast")
    assert program(node) == "/usr/bin/nvidia-persistenced" and has(node, "nvidia-driver-cuda")


def test_a_removal_of_the_driver_leaves_ours_installed_and_running(machine):
    node = machine
    dnf(node, f"install {BOTH}")
    enable(node)
    dnf(node, "install nvidia-driver-cuda")
    dnf(node, "remove nvidia-driver-cuda")
    assert program(node) == OURS and teardowns(node) == [0, 0]
