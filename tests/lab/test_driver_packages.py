# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Debian's packages of NVIDIA's driver together with ours, in every order: simulated for the whole archive, and installed on
nodes if they require no GPU. The table in docs/install.md says the same."""

import pytest

from harness.simulator import scenario
from lab.packages import install, run
from nvidia import userspace

pytestmark = pytest.mark.each_debian(ci=False)

OURS = ("holdfast", "holdfast-nvidia-persistenced")
UNIT = "nvidia-persistenced.service"
PROGRAM = "/usr/libexec/holdfast/nvidia-persistenced"
SCRIPT = "/etc/init.d/nvidia-persistenced"
# Packages that depend on nvidia-persistenced, recommend it, or are usually installed with it. Those in one group can be
# installed together.
DRIVERS = {
    "bookworm": (("libcuda1", "nvidia-smi", "nvidia-driver-full"), ("nvidia-tesla-470-driver",),
                 ("nvidia-tesla-535-driver-full",)),
    "trixie": (("libcuda1", "nvidia-smi", "nvidia-driver-full"), ("nvidia-tesla-535-driver-full",)),
}


@pytest.fixture(scope="module")
def archive(debian):
    with userspace.used(debian) as folder:
        yield folder


@pytest.fixture
def offered(bare_node, archive, packages):
    """A node with two GPUs that can install NVIDIA's packages and ours."""
    bare_node.simulate()
    userspace.offer(bare_node, archive, *map(packages.file, OURS))
    return bare_node


def program(node):
    """Returns the program that runs."""
    pid = node.exec("systemctl", "show", "--property=MainPID", "--value", UNIT).strip()
    return node.try_exec("readlink", f"/proc/{pid}/exe").out.strip()


def assert_ours(node):
    assert program(node) == PROGRAM
    assert node.exec("systemctl", "is-enabled", UNIT) == "enabled\n"
    node.gpus.wait_users(1, 1)
    assert whose_script(node) == "ours"


def whose_script(node):
    """Returns the package of the script that other init systems would run."""
    assert node.try_exec("test", "-x", SCRIPT).status == 0
    return "ours" if PROGRAM in node.read(SCRIPT) else "NVIDIA's"


def state(node, package):
    return node.try_exec("dpkg-query", "--show", "--showformat=${db:Status-Status}", package).out


def as_installed(package):
    """The entry of a dpkg status for a package file."""
    return run("dpkg-deb", "--field", package).replace("\n", "\nStatus: install ok installed\n", 1) + "\n"


def test_no_package_of_the_archive_replaces_ours_as_a_dependency(lab, debian, packages, tmp_path):
    status = tmp_path / "status"
    own = (lab.release(debian).base(()) / "var/lib/dpkg/status").read_text()
    status.write_text(own + "\n" + "".join(as_installed(packages.file(name)) for name in OURS))
    for names in DRIVERS[debian]:
        done = [line.split()[:2] for line in userspace.simulate(debian, status, "install", *names) if " " in line]
        assert all(["Inst", name] in done for name in names)
        assert not [line for line in done if line[0] in ("Inst", "Remv") and "persistenced" in line[1]], names


def test_our_package_stays_when_the_driver_is_installed_upgraded_or_removed(offered, packages):
    userspace.apt(offered, "install", *OURS)
    userspace.apt(offered, "install", "nvidia-smi", "libcuda1")
    assert state(offered, "nvidia-persistenced") in ("", "not-installed")
    assert_ours(offered)

    install(offered, *[packages.newer(name) for name in OURS])
    userspace.apt(offered, "dist-upgrade")
    userspace.apt(offered, "install", "--reinstall", "libcuda1")
    assert_ours(offered)

    userspace.apt(offered, "purge", "nvidia-smi")
    assert_ours(offered)
    userspace.apt(offered, "remove", *OURS)
    assert state(offered, "libcuda1") == "installed"
    offered.gpus.wait_released()


def test_our_package_replaces_nvidias_until_nvidias_is_installed_by_name(offered):
    userspace.apt(offered, "install", "libcuda1")
    assert state(offered, "nvidia-persistenced") == "installed"
    userspace.apt(offered, "install", *OURS)
    assert state(offered, "nvidia-persistenced") == "config-files"
    assert_ours(offered)

    # The purge script of NVIDIA's package disables the unit.
    userspace.apt(offered, "purge", "nvidia-persistenced")
    userspace.apt(offered, "autoremove", "--purge")
    assert_ours(offered)
    offered.reboot()
    assert_ours(offered)

    said = userspace.apt(offered, "install", "nvidia-persistenced")
    assert "REMOVED:\n  holdfast-nvidia-persistenced" in said
    assert state(offered, "holdfast") == "installed"
    assert program(offered) != PROGRAM
    assert whose_script(offered) == "NVIDIA's"

    for name in "holdfast-nvidia-persistenced", "nvidia-persistenced", "holdfast-nvidia-persistenced":
        userspace.apt(offered, "install", name)
        assert whose_script(offered) == ("ours" if "holdfast" in name else "NVIDIA's")
    assert_ours(offered)


def test_a_purge_of_our_packages_leaves_nvidias_daemon_that_has_replaced_ours_enabled(offered):
    userspace.apt(offered, "install", *OURS)
    userspace.apt(offered, "install", "nvidia-persistenced")
    before = program(offered)
    userspace.apt(offered, "purge", *OURS)
    assert (program(offered), offered.exec("systemctl", "is-enabled", UNIT)) == (before, "enabled\n")
    assert whose_script(offered) == "NVIDIA's" and offered.exec("sh", "-c", "ls /etc/rc?.d/S*nvidia-persistenced")


def versions(node):
    """Returns doctor's check of the libraries."""
    document = node.try_exec("holdfast", "doctor", "--json").json()
    (check,) = (check for check in document["checks"] if check["id"] == "versions")
    return check


def test_doctor_finds_nvml_in_debians_folder(offered):
    """Debian has NVML in a separate folder, behind two links. The loader does not find libnvidia-cfg, which is there too."""
    userspace.apt(offered, "install", *OURS)
    assert versions(offered)["summary"] == "the loader knows no libnvidia-ml and no libnvidia-cfg"

    userspace.apt(offered, "install", "nvidia-smi")
    version = offered.exec("dpkg-query", "--show", "--showformat=${Version}", "libnvidia-ml1").split("-")[0]
    check = versions(offered)
    assert (check["verdict"], check["evidence"]) == (
        "problem", [f"/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.{version}"])

    offered.exec("systemctl", "stop", UNIT)
    offered.gpus.load(f"[driver]\nversion = {version}\n" + scenario(2))
    check = versions(offered)
    assert (check["verdict"], check["evidence"]) == ("ok", [f"1 library of version {version}"])
