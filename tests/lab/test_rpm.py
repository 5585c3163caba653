# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The RPM packages, as far as they can be tested on a node without rpm: their files, what they provide and require, and their
scriptlets, which are run as rpm runs them."""

import os
import subprocess
from pathlib import Path

import pytest

from lab.clock import timed
from lab.lab import TOP
from lab.packages import run

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


def driver(folder, required):
    """Makes a driver's package with this requirement."""
    spec = folder / "driver.spec"
    spec.write_text(f"Name: driver\nVersion: 1\nRelease: 1\nSummary: stand-in\nLicense: none\nRequires: {required}\n"
                    "%description\nstand-in\n%files\n")
    run("rpmbuild", "-bb", "--define", f"_topdir {folder}", "--define", f"_rpmdir {folder}", spec)
    return next(folder.rglob("driver*.rpm"))


def unmet(folder, *files):
    """Returns the requirements that rpm does not find for these files on a machine without other packages."""
    done = subprocess.run(["rpm", "--upgrade", "--test", "--dbpath", folder / "db", *files], capture_output=True, text=True,
                          check=False)
    return [line.strip() for line in done.stderr.splitlines() if " is needed by " in line]


@pytest.mark.parametrize("required", REQUIRED)
def test_the_package_satisfies_requirements_of_nvidias_package_of_every_version(rpms, required, tmp_path):
    needed = required.format(isa=run("rpm", "--eval", "%{?_isa}").strip())
    theirs, ours = driver(tmp_path, needed), rpms["holdfast-nvidia-persistenced"]
    assert unmet(tmp_path, theirs) == [f"{needed} is needed by driver-1-1.{run('rpm', '--eval', '%_arch').strip()}"]
    assert not [line for line in unmet(tmp_path, theirs, ours) if line.startswith("nvidia-persistenced")]
    assert "nvidia-persistenced" in query(ours, "conflicts")


def test_the_simulators_library_is_not_provided_as_nvidias(rpms):
    assert not [line for line in query(rpms["holdfast-sim"], "provides") if line.startswith("libnvidia")]


def script(file, which, argument):
    """Returns the command that runs a scriptlet as rpm does."""
    text = run("rpm", "--query", "--package", f"--queryformat=%{{{which.upper()}}}", file)
    return ["sh", "-c", text, which, str(argument)]


def lay_down(node, folder, rpms):
    """Extracts both packages' files over the existing ones."""
    for name in ("holdfast", "holdfast-nvidia-persistenced"):
        tree = folder / name
        if not tree.exists():
            tree.mkdir()
            subprocess.run(f"rpm2cpio '{rpms[name]}' | cpio --extract --make-directories --quiet", shell=True, cwd=tree,
                           check=True)
        node.put_tree(tree)


def test_the_scriptlets_tear_no_gpu_down_before_the_removal(bare_node, rpms, tmp_path):
    node = bare_node.simulate()
    names = rpms["holdfast-nvidia-persistenced"]
    lay_down(node, tmp_path, rpms)
    for file in (rpms["holdfast"], names):
        node.exec(*script(file, "postin", 1))
    node.exec(*script(rpms["holdfast"], "posttrans", 1))
    node.exec("systemctl", "enable", "--now", UNIT)
    gpus = node.gpus.status()["gpus"]
    assert [gpu["usage_count"] for gpu in gpus] == [1, 1]
    before = node.exec("systemctl", "show", "--property=MainPID", UNIT)

    lay_down(node, tmp_path, rpms)
    for file in (rpms["holdfast"], names):
        node.exec(*script(file, "postin", 2))
    node.exec(*script(rpms["holdfast"], "posttrans", 2))
    assert node.exec("systemctl", "show", "--property=MainPID", UNIT) != before
    node.gpus.wait_users(1, 1)
    assert [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]] == [0, 0]

    node.exec(*script(names, "preun", 0))
    assert node.try_exec("systemctl", "is-enabled", UNIT).out == "disabled\n"
    node.gpus.wait_released()
