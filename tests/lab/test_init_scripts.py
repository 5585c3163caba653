# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The scripts for machines whose process 1 is not systemd; here it stands by while they are called as their init would."""

import pytest

from harness.events import wait_until

INITS = ("openrc", "sysv")
SCRIPT = "/etc/init.d/nvidia-persistenced"
PID_FILE = "/run/nvidia-persistenced/nvidia-persistenced.pid"

OPENRC_STATES = ("daemons", "exclusive", "failed", "inactive", "options", "started", "starting", "stopping", "tmp")

# Debian's OpenRC starts daemons by dpkg's start-stop-daemon, which does not tell it when one has died.
about_the_dead = pytest.mark.parametrize("init", ["sysv"], indirect=True)

only_openrc = pytest.mark.parametrize("init", ["openrc"], indirect=True)

# What `status` exits with, in LSB's numbers.
RUNS, DEAD, STOPPED = 0, 1, 3


@pytest.fixture(params=INITS)
def init(request):
    """Which of them the script is for."""
    return request.param


@pytest.fixture
def node(lab, init):
    """A node with Holdfast as packaging/install leaves it under that init; node.service(verb) is the administrator's."""
    node = lab.node(packages=("openrc",)).boot().simulate().install()
    node.put(lab.build / f"packaging/nvidia-persistenced.{init}", SCRIPT)
    node.exec("chmod", "755", SCRIPT)
    if init == "openrc":  # as its own process 1 would have
        node.exec("mkdir", "-p", *(f"/run/openrc/{state}" for state in OPENRC_STATES))
        node.exec("touch", "/run/openrc/softlevel")
        node.exec("sh", "-c", "echo rc_env_allow=HOLDFAST_ROOT >>/etc/rc.conf")  # else simulated GPUs are none
    # Debian's functions would have systemd do what the SysV script is called for.
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


def test_start_returns_when_the_gpus_are_held_and_again_does_nothing(node):
    pid = start(node)
    assert node.gpus.users() == [1, 1]
    assert node.exec("ps", "-o", "user:32=", "-p", str(pid)).strip() == "nvidia-persistenced"
    assert start(node) == pid


def test_stop_returns_when_they_are_released_and_again_does_nothing(node):
    start(node)
    for _ in range(2):
        assert node.service("stop").status == 0
        assert node.gpus.users() == [0, 0]
        assert node.try_exec("test", "-e", PID_FILE).status == 1


def test_restart_is_another_process_and_starts_one_that_did_not_run(node):
    assert node.service("restart").status == 0
    first = pid_of(node)
    assert node.service("restart").status == 0
    assert pid_of(node) != first
    assert node.gpus.users() == [1, 1]


def test_status_tells_running_and_stopped_apart(node):
    assert node.service("status").status == STOPPED
    start(node)
    assert node.service("status").status == RUNS


@about_the_dead
def test_status_tells_of_a_daemon_that_was_killed(node):
    kill(node, start(node))
    assert node.service("status").status == DEAD


@about_the_dead
def test_a_daemon_that_was_killed_can_be_started_again(node):
    kill(node, start(node))
    assert node.service("restart").status == 0
    assert node.gpus.users() == [1, 1]


def test_reload_has_the_configuration_read_again_by_the_same_process(node):
    pid = start(node)
    node.write("/etc/holdfast/holdfast.conf", "[gpu *]\npersistence = off\n")
    assert node.service("reload").status == 0
    wait_until(lambda: node.gpus.users() == [0, 0], "both GPUs released")
    assert pid_of(node) == pid


@only_openrc
@pytest.mark.parametrize(("user", "expected"), [('NVPD_USER="nvpd"\n', "nvpd"), ('NVPD_USER=""\n', "root"),
                                                ("", "nvidia-persistenced")], ids=["another", "none", "not said"])
def test_user_and_options_of_gentoos_configuration_count(node, user, expected):
    """As /etc/conf.d/nvidia-persistenced has them for NVIDIA's daemon."""
    node.exec("useradd", "--system", "nvpd")
    node.write("/etc/conf.d/nvidia-persistenced", f'{user}ARGS="--no-persistence-mode --uvm-persistence-mode"\n')
    pid = start(node)
    assert node.exec("ps", "-o", "user:32=", "-p", str(pid)).strip() == expected
    arguments = node.exec("ps", "-o", "args=", "-p", str(pid)).split()
    assert arguments[-2:] == ["--no-persistence-mode", "--uvm-persistence-mode"]
    assert node.gpus.users() == [0, 0]
    assert node.service("stop").status == 0
