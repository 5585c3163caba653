# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The RPM packages: their files, what they provide and require, and dnf's transactions with them (lab/rpms.py)."""

import subprocess

import pytest

from lab import rpms as lab_rpms
from lab.packages import run
from lab.rpms import BOTH, EMPTY, NEW, OLD, build, dnf, has, query, try_dnf

# What these drivers' packages require, in this order: nvidia-driver-cuda (NVIDIA's and negativo17's),
# xorg-x11-drv-nvidia-cuda (RPM Fusion), compat-nvidia-repo, nvidia-compute-G06 (openSUSE). {isa} is rpm's macro %{?_isa}.
REQUIRED = ("nvidia-persistenced = 3:610.43.03", "nvidia-persistenced{isa} = 3:595.71.05", "nvidia-persistenced >= 3:450.57",
            "nvidia-persistenced >= 580.95.05")
UNIT = "nvidia-persistenced.service"

pytestmark = pytest.mark.xdist_group("rpm")  # to build the packages once


def test_the_files_are_split_between_three_packages(rpms):
    assert set(rpms.ours) == {"holdfast", "holdfast-nvidia-persistenced", "holdfast-sim"}
    files = {name: query(file, "list") for name, file in rpms.ours.items()}
    assert {"/usr/bin/holdfast", "/usr/libexec/holdfast/nvidia-persistenced",
            "/usr/lib/systemd/system/holdfast.service", "/etc/holdfast", "/etc/holdfast/hooks.d"} < files["holdfast"]
    assert {"/usr/bin/nvidia-persistenced", "/usr/lib/systemd/system/nvidia-persistenced.service"} < \
        files["holdfast-nvidia-persistenced"]
    assert not files["holdfast"] & files["holdfast-nvidia-persistenced"]
    assert "/usr/bin/holdfast-sim" in files["holdfast-sim"]


def unmet(folder, *files):
    """Returns the requirements that rpm does not find for these files on a machine without other packages."""
    done = subprocess.run(["rpm", "--upgrade", "--test", "--dbpath", folder / "db", *files], capture_output=True, text=True,
                          check=False)
    return [line.strip() for line in done.stderr.splitlines() if " is needed by " in line]


@pytest.mark.parametrize("required", REQUIRED)
def test_our_package_satisfies_drivers_that_require_nvidias_package(rpms, required, tmp_path):
    needed = required.format(isa=run("rpm", "--eval", "%{?_isa}").strip())
    theirs, ours = build(tmp_path, "driver", f"Requires: {needed}\n{EMPTY}"), rpms.ours["holdfast-nvidia-persistenced"]
    assert unmet(tmp_path, theirs) == [f"{needed} is needed by driver-1-1.{run('rpm', '--eval', '%_arch').strip()}"]
    assert not [line for line in unmet(tmp_path, theirs, ours) if line.startswith("nvidia-persistenced")]
    assert "nvidia-persistenced" in query(ours, "conflicts")


def test_the_simulators_library_is_not_provided_as_nvidias(rpms):
    assert not [line for line in query(rpms.ours["holdfast-sim"], "provides") if line.startswith("libnvidia")]


# ---- dnf's transactions ----------------------------------------------------------


@pytest.fixture
def machine(lab, rpms):
    node = lab_rpms.node(lab)
    rpms.prepare(node)
    yield node
    node.remove()


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
def test_dnf_replaces_nvidias_package_below_a_driver_that_requires_it_and_goes_back(machine, rpms, replace):
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
    rpms.publish(node, NEW)
    dnf(node, "upgrade --refresh")
    assert NEW in try_dnf(node, "list --installed nvidia-driver-cuda").out and main_pid(node) == before, "ours stays"

    said = try_dnf(node, "remove holdfast holdfast-nvidia-persistenced", answer="--assumeno").out
    assert "nvidia-driver-cuda" in said, "the removal would also remove the driver, as the pages warn"
    dnf(node, "swap holdfast-nvidia-persistenced nvidia-persistenced")
    assert node.try_exec("systemctl", "is-enabled", UNIT).out == "disabled\n", "the pages name the command that enables it"
    enable(node)
    dnf(node, "remove holdfast")
    assert program(node) == "/usr/bin/nvidia-persistenced" and has(node, "nvidia-driver-cuda")


def test_a_swap_that_names_the_drivers_version_does_not_upgrade_the_driver(machine, rpms):
    node = machine
    dnf(node, f"install {BOTH}")
    dnf(node, "install nvidia-driver-cuda")
    rpms.publish(node, NEW)
    swap = "swap --refresh holdfast-nvidia-persistenced nvidia-persistenced"
    assert "Upgrading:\n nvidia-driver-cuda" in try_dnf(node, swap, answer="--assumeno").out, "as the pages warn"
    dnf(node, f"{swap}-{OLD}")
    assert OLD in try_dnf(node, "list --installed nvidia-driver-cuda").out


def test_a_removal_of_the_driver_leaves_ours_installed_and_running(machine):
    node = machine
    dnf(node, f"install {BOTH}")
    enable(node)
    dnf(node, "install nvidia-driver-cuda")
    dnf(node, "remove nvidia-driver-cuda")
    assert program(node) == OURS and teardowns(node) == [0, 0]
