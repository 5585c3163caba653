# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Restarts under a real systemd, with the keeper as a separate unit: no GPU is torn down, and no client is refused.

tests/system/test_restart.py has the details of the daemon's side, with a fake service manager.
"""

import pytest

from harness.events import wait_until
from lab.clients import calling

pytestmark = pytest.mark.each_debian

SERVICE = "nvidia-persistenced.service"
KEEPER = "holdfast-keeper.service"
SOCKET = "/run/nvidia-persistenced/socket"
CLIENTS = 4
TIMES = 4


@pytest.fixture
def held(bare_node):
    """Four GPUs, held by the enabled service."""
    node = bare_node.simulate(gpus=4).install()
    node.exec("systemctl", "enable", "--now", SERVICE)
    return node


def books(node):
    """Returns the initialisations, teardowns and users of each GPU."""
    return [(gpu["initialisations"], gpu["teardowns"], gpu["usage_count"]) for gpu in node.gpus.status()["gpus"]]


def shown(node, name):
    return node.exec("systemctl", "show", "--value", f"--property={name}", SERVICE).strip()


def assert_held_all_the_time(node, gpus=4):
    """Asserts that no GPU was torn down, after the previous daemon has closed its descriptors."""
    node.exec("holdfast", "wait", "--timeout", "60")
    assert shown(node, "ActiveState") == "active"
    wait_until(lambda: [users for _, _, users in books(node)] == [1] * gpus, "one user of each GPU", timeout=20)
    assert books(node) == [(1, 0, 1)] * gpus, "initialised once, never torn down"


def restart(node):
    node.exec("systemctl", "restart", SERVICE)


def kill(node):
    """Kills the daemon as the kernel does when memory runs out. The restart follows after a second (RestartSec=)."""
    before = shown(node, "MainPID")
    node.exec("systemctl", "kill", "--signal=KILL", SERVICE)
    wait_until(lambda: shown(node, "MainPID") not in ("0", before), "another process", timeout=30)


def reexecute(node):
    """Reexecutes systemd, as an upgrade does: it saves its state, including descriptors, and restores it. Then restarts."""
    node.exec("systemctl", "daemon-reexec")
    node.exec("systemctl", "restart", SERVICE)


@pytest.mark.parametrize("end", [restart, kill, reexecute])
def test_under_load_no_gpu_is_torn_down_and_no_client_is_refused(held, end):
    with calling(held, CLIENTS) as tally:
        for _ in range(TIMES):
            end(held)
            held.exec("holdfast", "wait", "--timeout", "60")
    assert not tally.refused
    # A daemon that ends drops the calls that it is serving: at most one for each client.
    assert tally.broken <= CLIENTS * TIMES
    assert tally.answers > CLIENTS * TIMES, "there was load"
    assert_held_all_the_time(held)


def test_a_reload_of_systemd_or_of_the_daemon_tears_no_gpu_down(held):
    pid = shown(held, "MainPID")
    with calling(held, CLIENTS) as tally:
        for _ in range(TIMES):
            held.exec("systemctl", "daemon-reload")
            held.exec("systemctl", "reload", SERVICE)
    assert (tally.refused, tally.broken) == ([], 0)
    assert shown(held, "MainPID") == pid
    assert_held_all_the_time(held)


def test_the_sockets_inode_outlives_restarts_and_kills(held):
    """A container that has mounted the socket can still use it."""
    def inode():
        return held.exec("stat", "--format=%i", SOCKET)

    before = inode()
    for end in (restart, kill, reexecute):
        end(held)
        assert inode() == before
    assert_held_all_the_time(held)


def test_without_the_socket_unit_the_gpus_are_kept_too(held):
    held.exec("systemctl", "mask", "--now", "nvidia-persistenced.socket")
    held.exec("systemctl", "restart", SERVICE)
    kill(held)
    assert_held_all_the_time(held)


def test_64_gpus_with_uvm_are_kept(bare_node):
    node = bare_node.simulate(gpus=64).install()
    node.write("/etc/holdfast/holdfast.conf", "[gpu *]\nuvm-persistence = on\n")
    node.exec("systemctl", "enable", "--now", SERVICE)
    wait_until(lambda: len(node.gpus.journal("uvm-registered")) == 64, "every GPU registered with UVM", timeout=30)
    for end in (restart, kill):
        end(node)
        node.exec("holdfast", "wait", "--timeout", "60")
    assert len(node.gpus.journal("uvm-registered")) == 64 and not node.gpus.journal("uvm-unregistered")
    assert [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]] == [0] * 64


def test_the_watchdog_replaces_a_stopped_daemon_and_no_gpu_is_torn_down(held):
    held.write(f"/etc/systemd/system/{SERVICE}.d/soon.conf", "[Service]\nWatchdogSec=2s\n")
    held.exec("systemctl", "daemon-reload")
    held.exec("systemctl", "restart", SERVICE)
    held.exec("systemctl", "kill", "--signal=STOP", "--kill-whom=main", SERVICE)
    wait_until(lambda: shown(held, "NRestarts") == "1", "the watchdog's restart", timeout=60)
    assert_held_all_the_time(held)
    assert "Watchdog timeout (limit 2s)!" in held.journal(unit=SERVICE)
    assert "mode kept over a restart" in held.journal(unit=SERVICE)


def kept(node):
    """Returns how many descriptors the keeper has kept."""
    pid = node.exec("systemctl", "show", "--value", "--property=MainPID", KEEPER).strip()
    if pid == "0":
        return 0
    # Not by name: /proc has no name for a file that was opened in a mount namespace that has ended.
    targets = [line.split(" -> ")[1] for line in node.try_exec("ls", "-l", f"/proc/{pid}/fd").out.splitlines() if " -> " in line]
    return sum(not target.startswith(("socket:", "pipe:", "anon_inode:", "/dev/null")) for target in targets)


def opened_by_process_1(node):
    return node.exec("ls", "-l", "/proc/1/fd").count("nvidia")


def test_process_1_never_has_a_gpu_open(held):
    def check():
        # The daemon does not wait until the keeper has received its copies.
        wait_until(lambda: kept(held) == 4, "the keeper has every GPU", timeout=20)
        assert opened_by_process_1(held) == 0

    check()
    for end in (restart, kill, reexecute):
        end(held)
        held.exec("holdfast", "wait", "--timeout", "60")
        check()


def test_a_stopped_or_killed_keeper_is_replaced_and_no_gpu_is_torn_down(held):
    for verb in (["stop"], ["kill", "--signal=KILL"], ["restart"]):
        held.exec("systemctl", *verb, KEEPER)
        wait_until(lambda: kept(held) == 4, "another keeper with every GPU", timeout=20)
        assert_held_all_the_time(held)
    restart(held)
    assert_held_all_the_time(held)


def test_without_a_restart_the_keeper_holds_a_killed_daemons_gpus_for_a_limited_time(bare_node):
    node = bare_node.simulate(gpus=4).install()
    node.write("/etc/holdfast/holdfast.conf", "[daemon]\nkeeper-timeout = 3\n")
    node.write(f"/etc/systemd/system/{SERVICE}.d/once.conf", "[Service]\nRestart=no\n")
    node.exec("systemctl", "enable", "--now", SERVICE)
    node.gpus.ctl("fail", gpu="all", count=0)  # changes nothing, but leaves a record
    node.exec("systemctl", "kill", "--signal=KILL", SERVICE)
    wait_until(lambda: shown(node, "ActiveState") == "failed", "the daemon's end", timeout=20)
    wait_until(lambda: books(node) == [(1, 1, 0)] * 4, "the keeper's end", timeout=30)
    # By the simulator's clock, because a busy machine may need these 3 s for the lines above.
    begin = node.gpus.journal("control")[-1]["t_usec"]
    assert node.gpus.journal("torn-down")[0]["t_usec"] - begin >= 3_000_000


def test_with_a_drop_in_that_replaces_the_command_line_a_restart_tears_no_gpu_down(held):
    held.write(f"/etc/systemd/system/{SERVICE}.d/own.conf",
               "[Service]\nExecStart=\nExecStart=/usr/bin/nvidia-persistenced --persistence-mode --verbose\n")
    held.exec("systemctl", "daemon-reload")
    for end in (restart, restart, kill):
        end(held)
        assert_held_all_the_time(held)


def test_killall_releases_every_gpu(held):
    held.exec("systemctl", "mask", "--runtime", "holdfast-keeper.socket")
    held.exec("sh", "-c", "kill -TERM $(pgrep nvidia-persiste)")
    wait_until(lambda: books(held) == [(1, 1, 0)] * 4, "every GPU torn down", timeout=20)


def test_a_stop_releases_every_gpu_in_under_a_second(bare_node):
    """Eight GPUs, by the simulator's clock: from before the command to the last teardown. A teardown takes 10 ms."""
    node = bare_node.simulate(gpus=8).install()
    node.exec("systemctl", "enable", "--now", SERVICE)
    node.gpus.ctl("fail", gpu="all", count=0)  # changes nothing, but leaves a record
    node.exec("systemctl", "stop", SERVICE)
    begin = node.gpus.journal("control")[-1]["t_usec"]
    wait_until(lambda: len(node.gpus.journal("torn-down")) == 8, "eight teardowns")
    end = node.gpus.journal("torn-down")[-1]["t_usec"]
    print(f"released after {(end - begin) / 1e6:.3f} s")
    assert end - begin < 1_000_000
    assert node.try_exec("test", "-e", SOCKET).status == 1


def test_systemd_answers_while_a_stop_waits_for_the_driver(bare_node):
    """The driver does not return from the close. The daemon gives up after 4.5 s, and the kernel continues with the close.
    This must not block process 1."""
    node = bare_node.simulate(gpus=2, gpu1="hang = close").install()
    node.exec("systemctl", "enable", "--now", SERVICE)
    node.exec("systemctl", "stop", "--no-block", SERVICE)
    # The other GPU may be torn down before, or wait for the driver's lock.
    wait_until(lambda: len([record for record in node.gpus.journal("close") if record["gpu"]]) == 2,
               "both GPUs' closes under way", timeout=20)
    assert shown(node, "LoadState") == "loaded", "systemd answers"
    wait_until(lambda: shown(node, "ActiveState") != "deactivating", "the end of the stop", timeout=60)
    node.gpus.ctl("hang", gpu=1, on=False, which="close")
    wait_until(lambda: len(node.gpus.journal("torn-down")) == 2, "both teardowns", timeout=20)
