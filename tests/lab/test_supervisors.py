# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The recipes for runit and s6, with Debian's packages of these: readiness, a stop, a restart that tears no GPU down, and what
happens after a crash and after a permanent error."""

import pytest

from harness.events import wait_until

EXAMPLES = "/usr/share/holdfast/examples"
NAME = "nvidia-persistenced"


class Runit:
    packages = ("runit",)
    run = "runsvdir -P /srv/service"
    folder = f"/srv/service/{NAME}"
    start, stop, restart = f"sv -w 30 start {folder}", f"sv -w 30 stop {folder}", f"sv -w 30 restart {folder}"
    is_ready = f"sv check {folder}"
    pid = f"cat {folder}/supervise/pid"
    is_down = f"sv status {folder} | grep ^down: | grep -qv 'want up'"


class S6:
    packages = ("s6",)
    run = "s6-svscan /srv/service"
    folder = f"/srv/service/{NAME}"
    start, stop = f"s6-svc -wU -T 30000 -u {folder}", f"s6-svc -wD -T 30000 -d {folder}"
    restart = f"s6-svc -wR -T 30000 -1 {folder}"
    is_ready = f"test $(s6-svstat -o ready {folder}) = true"
    pid = f"s6-svstat -o pid {folder}"
    is_down = f"test \"$(s6-svstat -o up,wantedup {folder})\" = 'false false'"


@pytest.fixture(params=[Runit, S6], ids=["runit", "s6"])
def supervisor(request):
    return request.param


@pytest.fixture
def node(lab, supervisor):
    """A node with two GPUs on which the supervisor runs, with our recipe as its only service."""
    node = lab.node(packages=supervisor.packages).boot().simulate().install()
    node.exec("mkdir", "-p", "/srv/service")
    node.exec("cp", "-a", f"{EXAMPLES}/{supervisor.__name__.lower()}", supervisor.folder)
    yield node
    node.remove()


def run(node, supervisor):
    """Runs the supervisor as process 1 would."""
    node.exec("systemd-run", "--unit=supervisor", "--setenv=PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", supervisor.run)


def begin(node, supervisor):
    """Runs the supervisor and waits until its service is ready."""
    run(node, supervisor)
    wait_until(lambda: node.try_exec(supervisor.is_ready).status == 0, "the service ready", 20)
    node.gpus.wait_users(1, 1)
    return pid_of(node, supervisor)


def pid_of(node, supervisor):
    return node.exec(supervisor.pid).strip()


def teardowns(node):
    return [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]]


def test_the_service_is_ready_when_the_gpus_are_held_and_a_stop_releases_them(node, supervisor):
    pid = begin(node, supervisor)
    assert node.exec("ps", "-o", "user:32=", "-p", pid).strip() == "nvidia-persistenced"
    node.exec(supervisor.stop)
    wait_until(lambda: node.try_exec(supervisor.is_down).status == 0, "the service down")
    node.gpus.wait_released()
    node.exec(supervisor.start)
    node.gpus.wait_users(1, 1)


def test_the_service_stays_ready_while_an_administrator_has_switched_a_gpu_off(node, supervisor):
    begin(node, supervisor)
    node.exec("holdfast", "set", "off", "--gpu", "0")
    node.gpus.wait_users(0, 1)
    node.exec(supervisor.is_ready)


def test_a_restart_and_a_crash_tear_no_gpu_down(node, supervisor):
    pid = begin(node, supervisor)
    for command in supervisor.restart, f"kill -KILL {pid}":
        before = pid_of(node, supervisor)
        node.exec(command.replace(pid, before))
        wait_until(lambda: pid_of(node, supervisor) not in ("", "0", "-1", before), "another process", 20)
        wait_until(lambda: node.try_exec("holdfast", "check").status == 0, "both GPUs held by it", 20)
    node.gpus.wait_users(1, 1)
    assert teardowns(node) == [0, 0]


def test_an_invalid_configuration_ends_the_service_without_a_restart(node, supervisor):
    node.write("/etc/holdfast/holdfast.conf", "no section\n")
    run(node, supervisor)
    wait_until(lambda: "holdfast.conf" in node.journal(), "the daemon's complaint", 20)
    wait_until(lambda: node.try_exec(supervisor.is_down).status == 0, "the service down", 20)
    assert node.gpus.users() == [0, 0]
