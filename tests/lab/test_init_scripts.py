# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The init scripts for machines without systemd. Here systemd is process 1, but the scripts are called as by their init."""

import pytest

from harness.events import wait_until

INITS = ("openrc", "sysv")
SCRIPT = "/etc/init.d/nvidia-persistenced"
PID_FILE = "/run/nvidia-persistenced/nvidia-persistenced.pid"

OPENRC_STATES = ("daemons", "exclusive", "failed", "inactive", "options", "started", "starting", "stopping", "tmp")

# Debian's OpenRC starts daemons with dpkg's start-stop-daemon, which does not report that one has died.
about_the_dead = pytest.mark.parametrize("init", ["sysv"], indirect=True)

only_openrc = pytest.mark.parametrize("init", ["openrc"], indirect=True)

# Exit statuses of `status`, as in the LSB.
RUNS, DEAD, STOPPED = 0, 1, 3


@pytest.fixture(params=INITS)
def init(request):
    """The init system whose script is tested."""
    return request.param


@pytest.fixture
def node(lab, init):
    """A node with Holdfast as packaging/install installs it for that init system. node.service(verb) calls the script."""
    node = lab.node(packages=("openrc",)).boot().simulate().install()
    node.put(lab.build / f"packaging/nvidia-persistenced.{init}", SCRIPT)
    node.exec("chmod", "755", SCRIPT)
    if init == "openrc":  # as that init system's process 1 does
        node.exec("mkdir", "-p", *(f"/run/openrc/{state}" for state in OPENRC_STATES))
        node.exec("touch", "/run/openrc/softlevel")
        node.exec("sh", "-c", "echo rc_env_allow=HOLDFAST_ROOT >>/etc/rc.conf")  # for simulated GPUs
    # Debian's functions would pass the call of the SysV script to systemd.
    node.service = lambda verb: node.try_exec(SCRIPT, verb, environment={"SYSTEMCTL_SKIP_REDIRECT": "1"})
    yield node
    node.remove()


def pid_of(node):
    return int(node.read(PID_FILE))


def start(node):
    result = node.service("start")
    assert result.status == 0, str(result)
    return pid_of(node)


def kill(node, pid):
    node.exec("kill", "-KILL", str(pid))
    wait_until(lambda: node.try_exec("kill", "-0", str(pid)).status != 0, f"process {pid} reaped")


def test_start_returns_when_the_gpus_are_held_and_a_second_start_does_nothing(node):
    pid = start(node)
    assert node.gpus.users() == [1, 1]
    assert node.exec("ps", "-o", "user:32=", "-p", str(pid)).strip() == "nvidia-persistenced"
    assert start(node) == pid


def test_stop_returns_when_the_gpus_are_released_and_a_second_stop_does_nothing(node):
    start(node)
    for _ in range(2):
        assert node.service("stop").status == 0
        node.gpus.wait_released()
        assert node.try_exec("test", "-e", PID_FILE).status == 1


def test_restart_replaces_a_running_daemon_and_starts_a_stopped_one(node):
    assert node.service("restart").status == 0
    first = pid_of(node)
    assert node.service("restart").status == 0
    assert pid_of(node) != first
    node.gpus.wait_users(1, 1)


def test_status_distinguishes_running_and_stopped(node):
    assert node.service("status").status == STOPPED
    start(node)
    assert node.service("status").status == RUNS


@about_the_dead
def test_status_reports_a_killed_daemon(node):
    kill(node, start(node))
    assert node.service("status").status == DEAD


@about_the_dead
def test_a_killed_daemon_can_be_started_again(node):
    kill(node, start(node))
    assert node.service("restart").status == 0
    node.gpus.wait_users(1, 1)


def test_reload_makes_the_same_process_read_the_configuration_again(node):
    pid = start(node)
    node.write("/etc/holdfast/holdfast.conf", "[gpu *]\npersistence = off\n")
    assert node.service("reload").status == 0
    node.gpus.wait_users(0, 0)
    assert pid_of(node) == pid


@only_openrc
@pytest.mark.parametrize(("user", "expected"), [('NVPD_USER="nvpd"\n', "nvpd"), ('NVPD_USER=""\n', "root"),
                                                ("", "nvidia-persistenced")], ids=["another", "none", "not said"])
def test_the_user_and_options_in_gentoos_configuration_are_used(node, user, expected):
    """The variables of /etc/conf.d/nvidia-persistenced for NVIDIA's daemon."""
    node.exec("useradd", "--system", "nvpd")
    node.write("/etc/conf.d/nvidia-persistenced", f'{user}ARGS="--no-persistence-mode --uvm-persistence-mode"\n')
    pid = start(node)
    assert node.exec("ps", "-o", "user:32=", "-p", str(pid)).strip() == expected
    arguments = node.exec("ps", "-o", "args=", "-p", str(pid)).split()
    assert arguments[-2:] == ["--no-persistence-mode", "--uvm-persistence-mode"]
    assert node.gpus.users() == [0, 0]
    assert node.service("stop").status == 0
