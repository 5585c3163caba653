# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The Debian packages on a machine whose process 1 is sysvinit: starting, upgrading, stopping by a runlevel, removing and
purging the init script, also with NVIDIA's package and an administrator's changes."""

import pytest

from lab.packages import install, remove
from lab.sysv import SysvNode

pytestmark = pytest.mark.each_debian

OURS = ("holdfast", "holdfast-nvidia-persistenced")
NAME = "holdfast-nvidia-persistenced"
SCRIPT = "/etc/init.d/nvidia-persistenced"
PID_FILE = "/run/nvidia-persistenced/nvidia-persistenced.pid"


@pytest.fixture
def bare(lab, debian):
    node = SysvNode(lab, debian)
    try:
        yield node.boot().simulate()
    finally:
        node.remove()


@pytest.fixture
def node(bare, packages):
    install(bare, *map(packages.file, OURS))
    return bare


def pid_of(node):
    return node.read(PID_FILE).strip()


def teardowns(node):
    return [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]]


def links(node):
    return node.exec("cd /etc && ls -d rc?.d/*nvidia-persistenced || :").split()


def test_after_the_installation_the_daemon_runs_and_its_script_controls_it(node):
    assert node.exec("ps", "-o", "comm=", "-p", "1") == "init\n"
    assert node.gpus.users() == [1, 1]
    assert node.exec("ps", "-o", "user:32=", "-p", pid_of(node)) == "nvidia-persistenced\n"
    assert node.exec(SCRIPT, "status") == f"nvidia-persistenced ({pid_of(node)}) is running\n"

    before = pid_of(node)
    node.exec("service", "nvidia-persistenced", "restart")
    assert pid_of(node) != before
    node.gpus.wait_users(1, 1)
    assert teardowns(node) == [0, 0]

    node.exec("service", "nvidia-persistenced", "stop")
    node.gpus.wait_released()
    assert node.try_exec(SCRIPT, "status").status == 3


def test_runlevels_start_and_stop_the_daemon(node):
    for level, users in (1, [0, 0]), (2, [1, 1]):
        node.exec("init", str(level))
        node.wait_runlevel(level)
        node.gpus.wait_users(*users)


def test_an_upgrade_restarts_the_daemon_and_tears_no_gpu_down(node, packages):
    before = pid_of(node)
    install(node, *map(packages.newer, OURS))
    assert pid_of(node) != before
    node.gpus.wait_users(1, 1)
    assert teardowns(node) == [0, 0]
    assert node.exec("readlink", f"/proc/{pid_of(node)}/exe") == "/usr/libexec/holdfast/nvidia-persistenced\n"


def test_an_upgrade_leaves_a_disabled_service_disabled(node, packages):
    node.exec("update-rc.d", "nvidia-persistenced", "disable")
    node.exec(SCRIPT, "stop")
    install(node, *map(packages.newer, OURS))
    node.gpus.wait_released()


def test_a_removal_removes_the_script_and_a_purge_its_links(node):
    remove(node, NAME)
    node.gpus.wait_released()
    assert node.try_exec("test", "-e", SCRIPT).status == 1
    remove(node, NAME, purge=True)
    assert links(node) == []


def test_a_changed_script_stays_until_the_purge(node, packages):
    node.exec("sh", "-c", f"echo '# changed' >>{SCRIPT}")
    install(node, *map(packages.newer, OURS))
    assert node.read(SCRIPT).endswith("# changed\n")
    remove(node, NAME)
    assert node.try_exec("test", "-x", SCRIPT).status == 1
    install(node, packages.newer(NAME))
    assert node.read(SCRIPT).endswith("# changed\n")
    assert node.gpus.users() == [1, 1]
    remove(node, NAME, purge=True)
    assert node.try_exec("test", "-e", SCRIPT).status == 1


def test_an_administrators_script_is_left_alone(bare, packages):
    bare.write(SCRIPT, "#!/bin/sh\nexit 0\n", 0o755)
    install(bare, *map(packages.file, OURS))
    remove(bare, NAME, purge=True)
    assert bare.read(SCRIPT) == "#!/bin/sh\nexit 0\n"
