# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Which processes have a GPU open according to the tools of operators and agents: daemon and keeper, by the usual name, and
never process 1. And what `fuser -k` does to them. docs/runbooks/other-holder.md says the same."""

import pytest

from harness.events import wait_until

pytestmark = pytest.mark.each_debian(ci=False)

SERVICE = "nvidia-persistenced.service"
KEEPER = "holdfast-keeper.service"
NAME = "nvidia-persiste"
# -f: lsof would take a node of the lab for a file system, because something is mounted there.
LSOF = ("lsof", "-f")


@pytest.fixture
def held(lab, debian):
    """Two GPUs, held by the enabled service."""
    node = lab.node(packages=("lsof", "psmisc"), debian=debian).boot().simulate().install()
    node.exec("systemctl", "enable", "--now", SERVICE)
    yield node
    node.remove()


def pid_of(node, unit):
    return int(node.exec("systemctl", "show", "--property=MainPID", "--value", unit))


def by_lsof(node, gpu=0):
    """Returns the names of the processes that have the node open, by pid."""
    fields = node.try_exec(*LSOF, "-F", "pc", "--", f"/dev/nvidia{gpu}").out.split()
    pids = [int(field[1:]) for field in fields if field[0] == "p"]
    return dict(zip(pids, [field[1:] for field in fields if field[0] == "c"]))


def by_fuser(node, gpu=0):
    return [int(pid) for pid in node.try_exec("fuser", f"/dev/nvidia{gpu}").out.split()]


def assert_holders(node, *units):
    pids = sorted(pid_of(node, unit) for unit in units)
    for gpu in (0, 1):
        # The daemon does not wait until the keeper has received its copies.
        wait_until(lambda gpu=gpu: by_lsof(node, gpu) == {pid: NAME for pid in pids}, f"GPU {gpu} open in {pids}", 20)
        assert by_fuser(node, gpu) == pids


def initialised_once(node):
    return [(gpu["initialisations"], gpu["teardowns"]) for gpu in node.gpus.status()["gpus"]] == [(1, 0)] * 2


def test_lsof_and_fuser_find_the_daemon_and_the_keeper(held):
    assert_holders(held, SERVICE, KEEPER)
    held.exec("systemctl", "restart", SERVICE)
    held.exec("holdfast", "wait", "--timeout", "60")
    assert_holders(held, SERVICE, KEEPER)
    assert initialised_once(held)
    _, *rows = held.exec(*LSOF, "--", "/dev/nvidia0").splitlines()
    assert [row.split()[0] for row in rows] == [NAME[:9]] * 2, "without -c lsof shows only the first 9 characters"


def test_while_the_daemon_is_down_lsof_and_fuser_find_the_keeper_and_not_process_1(held):
    held.write(f"/etc/systemd/system/{SERVICE}.d/once.conf", "[Service]\nRestart=no\n")
    held.exec("systemctl", "daemon-reload")
    held.exec("systemctl", "kill", "--signal=KILL", SERVICE)
    wait_until(lambda: held.try_exec("systemctl", "is-failed", SERVICE).status == 0, "the daemon's end")
    assert_holders(held, KEEPER)
    assert "nvidia" not in held.exec("ls", "-l", "/proc/1/fd")
    held.exec("systemctl", "start", SERVICE)
    assert_holders(held, SERVICE, KEEPER)
    assert initialised_once(held)


def test_fuser_k_tears_every_gpu_down_and_the_next_daemon_holds_them_again(held):
    """fuser -k kills daemon and keeper, so no process has any of the GPUs open."""
    assert_holders(held, SERVICE, KEEPER)
    before = {pid_of(held, SERVICE), pid_of(held, KEEPER)}
    assert set(map(int, held.exec("fuser", "--kill", "/dev/nvidia0").split())) == before
    wait_until(lambda: pid_of(held, SERVICE) not in (0, *before), "another daemon", timeout=30)
    held.exec("holdfast", "wait", "--timeout", "60")
    assert_holders(held, SERVICE, KEEPER)
    assert not before & {pid_of(held, SERVICE), pid_of(held, KEEPER)}
    assert [(gpu["initialisations"], gpu["teardowns"]) for gpu in held.gpus.status()["gpus"]] == [(2, 1)] * 2


def test_fuser_with_sigterm_stops_the_daemon(held):
    held.exec("fuser", "--kill", "-TERM", "/dev/nvidia0")
    wait_until(lambda: held.try_exec("systemctl", "is-active", SERVICE).out == "inactive\n", "the daemon's end", timeout=30)
    held.gpus.wait_released()
    assert by_lsof(held) == {} and by_fuser(held) == []


def test_during_a_release_lsof_and_fuser_find_nobody(held):
    """lsof and fuser exit with 1 when they find nobody."""
    for tool in (LSOF, ("fuser",)):
        released = held.try_exec("holdfast", "release", "--gpu", "0", "--", *tool, "/dev/nvidia0")
        assert released.status == 1, str(released)
    assert_holders(held, SERVICE, KEEPER)
