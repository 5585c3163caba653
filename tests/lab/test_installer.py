# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""packaging/install on an image that then boots, and on a node that runs. tests/system/test_packaging.py tests the rest."""

import shutil
import subprocess

import pytest

from lab.lab import TOP

SERVICE = "nvidia-persistenced.service"
KEEPER = "holdfast-keeper.service"
OURS = "find / -xdev -path /root -prune -o ! -type d -path '*holdfast*' -print -o -path '/etc/holdfast*' -print"
# What a build with -Dnvidia_names=false does not have, below the prefix.
NAMES = ("bin/nvidia-persistenced", "lib/systemd/system/nvidia-persistenced.service", "lib/systemd/system/nvidia-persistenced.socket")


def run_installer(node, *options):
    """Runs the installer on this machine, with the node's file system as the image."""
    done = subprocess.run([TOP / "packaging/install", f"--build={node.lab.build}", f"--root={node.path('/')}", *options],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_image_boots_with_gpus_held_after_an_installation_and_as_before_after_a_removal(bare_node):
    node = bare_node.simulate()
    before = node.exec(OURS)
    run_installer(node)
    node.reboot()
    assert node.exec("systemctl", "is-active", SERVICE) == "active\n"
    assert node.gpus.users() == [1, 1]
    assert node.exec("systemctl", "is-system-running") == "running\n"

    run_installer(node, "--uninstall")
    node.reboot()
    assert node.try_exec("systemctl", "cat", SERVICE).status != 0
    assert node.gpus.users() == [0, 0]
    assert node.exec(OURS) == before


# ---- on a node that runs


@pytest.fixture
def put(bare_node, lab, tmp_path):
    """put(): puts the installer and an archive of the build on the node."""
    bare_node.simulate()

    def put(names=True):
        tree = shutil.copytree(lab.own.installation, tmp_path / "tree", symlinks=True)
        for name in () if names else NAMES:
            (tree / "usr" / name).unlink()
        shutil.make_archive(str(tmp_path / "holdfast"), "gztar", tree)
        bare_node.put(tmp_path / "holdfast.tar.gz", "/root/holdfast.tar.gz")
        bare_node.put(TOP / "packaging/install", "/root/install")
        return bare_node

    return put


@pytest.fixture
def installed(put):
    """A node with Holdfast installed from an archive. Its daemon runs."""
    node = put()
    install(node)
    assert node.gpus.users() == [1, 1]
    return node


def install(node, *options):
    return node.exec("/root/install", "--archive=/root/holdfast.tar.gz", *options)


def show(node, name, unit=SERVICE):
    return node.exec("systemctl", "show", f"--property={name}", "--value", unit).strip()


def teardowns(node):
    return [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]]


def test_an_upgrade_restarts_daemon_and_keeper_and_tears_no_gpu_down(installed):
    before = [show(installed, "MainPID", unit) for unit in (SERVICE, KEEPER)]
    said = install(installed)
    for unit, pid in zip((SERVICE, KEEPER), before):
        assert f"{unit} was restarted; its GPUs stayed initialised" in said, said
        assert show(installed, "MainPID", unit) not in (pid, "0")
    installed.gpus.wait_users(1, 1)
    assert teardowns(installed) == [0, 0]
    assert "OK" in installed.exec("holdfast", "check")


def test_an_upgrade_does_not_restart_an_administrators_unit_that_would_release_the_gpus(installed):
    installed.write(f"/etc/systemd/system/{SERVICE}", "[Service]\nType=forking\nExecStart=/usr/bin/nvidia-persistenced\n")
    installed.exec("systemctl", "daemon-reload")
    installed.exec("systemctl", "restart", SERVICE)
    pid, torn_down = show(installed, "MainPID"), teardowns(installed)
    said = install(installed)
    assert f"{SERVICE} still runs the previous version: a restart would release the GPUs" in said, said
    assert show(installed, "MainPID") == pid
    assert teardowns(installed) == torn_down


@pytest.mark.parametrize(("verb", "enabled"), [(("stop",), "enabled"), (("disable", "--now"), "disabled")], ids=["stopped", "disabled"])
def test_an_upgrade_leaves_a_stopped_or_disabled_service_as_it_is(installed, verb, enabled):
    installed.exec("systemctl", *verb, SERVICE)
    install(installed)
    assert show(installed, "ActiveState") == "inactive"
    assert installed.try_exec("systemctl", "is-enabled", SERVICE).out == f"{enabled}\n"
    installed.gpus.wait_released()


def test_a_later_installation_without_start_restarts_nothing(installed):
    pid = show(installed, "MainPID")
    install(installed, "--no-start")
    assert show(installed, "MainPID") == pid


def test_an_uninstall_stops_all_units_and_leaves_only_the_administrators_files(put):
    node = put()
    before = node.exec(OURS)
    install(node)
    node.write("/etc/holdfast/hooks.d/10-site", "#!/bin/sh\n")
    node.exec("/root/install", "--uninstall")
    node.gpus.wait_released()
    assert node.exec("systemctl", "list-units", "--no-legend", "holdfast*", "nvidia-persistenced*") == ""
    left = set(node.exec(OURS).split()) - set(before.split())
    assert left == {"/etc/holdfast", "/etc/holdfast/hooks.d", "/etc/holdfast/hooks.d/10-site"}


def test_a_build_without_nvidias_names_starts_nothing_and_an_upgrade_restarts_what_the_administrator_started(put):
    node = put(names=False)
    said = install(node)
    assert "no daemon was started" in said and node.gpus.users() == [0, 0]
    node.exec("systemctl", "enable", "--now", "holdfast")
    assert "holdfast.service was restarted; its GPUs stayed initialised" in install(node)
    node.gpus.wait_users(1, 1)
    assert teardowns(node) == [0, 0]
    node.exec("/root/install", "--uninstall")
    node.gpus.wait_released()
    assert node.try_exec("systemctl", "is-enabled", "holdfast").status != 0


def test_with_sysv_an_upgrade_restarts_a_running_daemon_and_leaves_a_stopped_one(bare_node, lab):
    node = bare_node.simulate()
    node.put(lab.own.installation, "/root/tree")
    node.put(lab.build / "packaging/nvidia-persistenced.sysv", "/root/build/packaging/nvidia-persistenced.sysv")
    node.write("/root/build/build.ninja", "")
    node.write("/root/meson", "#!/bin/sh\ncp -a /root/tree/. \"$DESTDIR\"\n", 0o755)  # a node has no Meson
    node.put(TOP / "packaging/install", "/root/install")
    script = "/etc/init.d/nvidia-persistenced"
    environment = {"MESON": "/root/meson", "SYSTEMCTL_SKIP_REDIRECT": "1"}  # systemd is process 1 here

    def run(*words):
        node.exec(*words, environment=environment)
        return node.try_exec(script, "status", environment=environment).out

    install = "/root/install", "--init=sysv", "--build=/root/build"
    first = run(*install)
    node.gpus.wait_users(1, 1)
    second = run(*install)
    assert "is running" in first and "is running" in second and first != second
    node.gpus.wait_users(1, 1)
    assert teardowns(node) == [0, 0]

    run(script, "stop")
    node.gpus.wait_released()
    assert "is not running" in run(*install)
