# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The daemon initialises each GPU once, holds it, and releases it on request, independently of the other GPUs.

The tests read from the simulated driver's journal what was done to a GPU.
"""

import re
import threading
import time

import pytest

from harness import rpc
from harness.events import wait_until
from harness.world import QUICK

ENABLED, DISABLED = (rpc.SUCCESS, rpc.ENABLED), (rpc.SUCCESS, rpc.DISABLED)

one_by_one = pytest.mark.holdfast_only("NVIDIA's daemon opens GPUs one after another, before it serves")
tries_again = pytest.mark.holdfast_only("NVIDIA's daemon does not retry")


def modes(daemon, world):
    return [daemon.get(address) for address in world.gpus]


# ---- held


def test_once_ready_every_gpu_is_initialised_once_and_held_by_the_daemon(world):
    world.simulate(gpus=8)
    daemon = world.start()
    for gpu in world.sim.status()["gpus"]:
        assert (gpu["initialised"], gpu["initialisations"], gpu["teardowns"]) == (True, 1, 0)
        assert {handle["pid"] for handle in gpu["handles"]} == {daemon.pid}
    assert modes(daemon, world) == [ENABLED] * 8


@pytest.mark.parametrize("backend", ["kernel"])
@pytest.mark.holdfast_only("NVIDIA's daemon opens nodes through its library, which the shim replaces")
def test_the_daemons_process_has_each_node_open_exactly_once(world):
    world.simulate(gpus=4)
    daemon = world.start()
    assert daemon.open_nodes() == ["nvidia0", "nvidia1", "nvidia2", "nvidia3"]
    daemon.set(world.gpus[2], rpc.DISABLED)
    assert daemon.open_nodes() == ["nvidia0", "nvidia1", "nvidia3"]


@pytest.mark.parametrize("backend", ["kernel"])
@pytest.mark.holdfast_only("NVIDIA's daemon uses the driver through its library")
@pytest.mark.parametrize("version", ["535.261.03", "550.163.01"])
def test_an_older_driver_gets_no_ioctl_that_it_does_not_support(world, version):
    world.simulate(gpus=2, defaults=QUICK + f"[driver]\nversion = {version}\n")
    daemon = world.start("--verbose")
    daemon.wait_for_log("the driver will not announce unbinds: .*this driver has no bind notices")
    assert modes(daemon, world) == [ENABLED] * 2
    assert world.sim.status()["unknown_ioctls"] == []
    assert world.sim.journal("ioctl-unknown") == []


def test_a_job_on_a_held_gpu_costs_no_initialisation_and_no_teardown(world, daemon):
    for _ in range(3):
        with world.sim.open_gpu(world.gpus[0]):
            pass
    gpu = world.sim.gpu(world.gpus[0])
    assert (gpu["initialisations"], gpu["teardowns"]) == (1, 0)


def test_without_the_daemon_each_job_costs_an_initialisation_and_a_teardown(world):
    """The counterpart of the previous test: the same job and the same driver, but no daemon."""
    world.simulate()
    for _ in range(3):
        with world.sim.open_gpu(world.gpus[0]):
            pass
    wait_until(lambda: world.sim.gpu(world.gpus[0])["teardowns"] == 3, "the third teardown is over")
    assert world.sim.gpu(world.gpus[0])["initialisations"] == 3


def test_a_setting_survives_the_job_that_made_it_only_on_a_held_gpu(world, daemon):
    world.sim.ctl("set", gpu=world.gpus[0], power_limit_w=450)
    with world.sim.open_gpu(world.gpus[0]):
        pass
    assert world.sim.gpu(world.gpus[0])["settings"]["power_limit_w"] == 450
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    assert world.sim.gpu(world.gpus[0])["settings"]["power_limit_w"] != 450


def test_a_killed_job_does_not_affect_the_daemons_hold(world, daemon):
    usage = world.sim.gpu(world.gpus[0])["usage_count"]
    with world.sim.open_gpu(world.gpus[0]) as job:
        job.kill()
    wait_until(lambda: world.sim.gpu(world.gpus[0])["usage_count"] == usage, "the kernel has closed the killed job's file")
    assert world.sim.gpu(world.gpus[0])["teardowns"] == 0
    assert daemon.get(world.gpus[0]) == ENABLED


def test_a_killed_daemon_releases_every_gpu(world, daemon):
    """This also ends its keeper, if it has one. test_restart.py tests what a keeper is for."""
    daemon.kill()
    world.site.end_keepers()
    for address in world.gpus:
        gpu = wait_until(lambda: (lambda gpu: not gpu["initialised"] and gpu)(world.sim.gpu(address)),
                         f"{address} is torn down after kill -9")
        assert (gpu["usage_count"], gpu["teardowns"]) == (0, 1)


def test_a_stop_returns_after_every_gpu_is_torn_down(world):
    world.simulate(gpus=3, defaults="lock = 0ms\ninit = 10ms\nteardown = 200ms\n")
    daemon = world.start()
    assert daemon.stop() == 0
    assert [(gpu["usage_count"], gpu["teardowns"]) for gpu in world.sim.status()["gpus"]] == [(0, 1)] * 3


@pytest.mark.holdfast_only("NVIDIA's daemon refuses to start")
def test_no_gpu_is_not_an_error(world):
    world.simulate(gpus=2, defaults=QUICK + "present = no\n")
    daemon = world.start()
    with daemon.connect() as connection:
        assert connection.null(1) == []
    assert daemon.is_running


# ---- released and held again on request


def test_a_set_off_is_answered_only_after_the_teardown(world):
    world.simulate(gpus=2, defaults="lock = 0ms\ninit = 10ms\nteardown = 500ms\n")
    daemon = world.start()
    start = time.monotonic()
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    took = time.monotonic() - start
    torn_down = [record["gpu"] for record in world.sim.journal("torn-down")]
    assert torn_down == [world.gpus[0]], "the daemon answered before the teardown was over"
    assert took >= 0.5


def test_a_set_on_is_answered_only_when_the_gpu_is_held(world):
    world.simulate(gpus=2, defaults="lock = 0ms\ninit = 300ms\nteardown = 1ms\n")
    daemon = world.start("--no-persistence-mode")
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    assert world.sim.gpu(world.gpus[0])["initialised"]


def test_each_set_off_and_on_tears_down_and_initialises_the_gpu_again(world, daemon):
    for _ in range(5):
        assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
        assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    gpu = world.sim.gpu(world.gpus[0])
    assert (gpu["initialisations"], gpu["teardowns"], gpu["initialised"]) == (6, 5, True)


def test_a_set_off_while_a_job_runs_leaves_the_gpu_to_the_job(world, daemon):
    with world.sim.open_gpu(world.gpus[0]):
        assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
        assert daemon.get(world.gpus[0]) == DISABLED
        assert world.sim.gpu(world.gpus[0])["initialised"]


class Call(threading.Thread):
    """A Set on its own thread, so that the test can continue meanwhile."""

    def __init__(self, daemon, address, mode, timeout=20):
        super().__init__(daemon=True)
        self.status = None
        self._call = lambda: daemon.set(address, mode, timeout)
        self.start()

    def run(self):
        self.status = self._call()

    def wait(self, timeout=20):
        self.join(timeout)
        assert not self.is_alive(), f"no answer to the Set within {timeout} s"
        return self.status


@one_by_one
def test_while_a_set_of_one_gpu_is_in_progress_other_sets_are_served(world):
    world.simulate(gpus=3, gpu1="hang = open")
    daemon = world.start("--no-persistence-mode")
    slow = Call(daemon, world.gpus[1], rpc.ENABLED)
    wait_until(lambda: world.sim.gpu(world.gpus[1])["initialising"], "the slow GPU's initialisation has begun")
    assert daemon.get(world.gpus[1]) == DISABLED
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    assert daemon.set(world.gpus[2], rpc.ENABLED) == rpc.SUCCESS
    assert slow.is_alive(), "the daemon answered before it held the GPU"
    world.sim.ctl("hang", gpu=world.gpus[1], on=False)
    assert slow.wait() == rpc.SUCCESS
    assert modes(daemon, world) == [ENABLED] * 3


@one_by_one
def test_sets_of_one_gpu_are_executed_in_the_order_of_their_arrival(world):
    world.simulate(gpus=1, gpu0="hang = open")
    daemon = world.start("--no-persistence-mode")
    with daemon.connect(20) as first, daemon.connect(20) as second, daemon.connect(20) as third:
        clients = (first, rpc.ENABLED), (second, rpc.DISABLED), (third, rpc.ENABLED)
        for client, mode in clients:
            args = rpc.device(world.gpus[0]) + rpc.words(mode)
            client.send_until_taken(rpc.record(rpc.call_message(2, rpc.V2_SET_ONLY, args)))
        wait_until(lambda: world.sim.gpu(world.gpus[0])["initialising"], "the first Set's initialisation has begun")
        world.sim.ctl("hang", gpu=world.gpus[0], on=False)
        assert [client.receive().results for client, _ in clients] == [[rpc.SUCCESS]] * 3
    assert daemon.get(world.gpus[0]) == ENABLED
    gpu = world.sim.gpu(world.gpus[0])
    assert (gpu["initialisations"], gpu["teardowns"]) == (2, 1)


def test_many_contradicting_sets_are_all_answered_and_the_driver_agrees_with_the_daemon(world, daemon):
    calls = [Call(daemon, world.gpus[0], number % 2) for number in range(40)]
    assert [call.wait() for call in calls] == [rpc.SUCCESS] * 40
    gpu = world.sim.gpu(world.gpus[0])
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, int(gpu["initialised"]))
    assert gpu["initialisations"] - gpu["teardowns"] == int(gpu["usage_count"] > 0)


@one_by_one
def test_the_driver_never_sees_two_opens_of_one_gpu_at_once(world, daemon):
    """A second blocking open of a GPU that is initialising would delay the opens of all other GPUs (docs/decisions/)."""
    for call in [Call(daemon, world.gpus[0], number % 2) for number in range(20)]:
        call.wait()
    usage = [int(re.search(r"\d+", record["detail"])[0]) for record in world.sim.journal("opened")
             if record["gpu"] == world.gpus[0]]
    assert usage and set(usage) == {1}


# ---- starting, in parallel


@one_by_one
@pytest.mark.parametrize("foreground", [True, False])
def test_eight_gpus_are_initialised_at_the_same_time(world, foreground):
    world.simulate(gpus=8, defaults="lock = 0ms\ninit = 2s\nteardown = 1ms\n")
    daemon = world.start() if foreground else world.start_forking()
    assert modes(daemon, world) == [ENABLED] * 8
    events = [record["event"] for record in world.sim.journal("initialising", "initialised")]
    assert events == ["initialising"] * 8 + ["initialised"] * 8, "the last one did not begin before the first one ended"


@one_by_one
def test_before_the_gpus_are_held_the_daemon_serves_and_answers_disabled(world):
    world.simulate(gpus=2, defaults=QUICK + "hang = open\n")
    daemon = world.begin("--verbose")
    daemon.wait_socket()
    wait_until(lambda: all(gpu["initialising"] for gpu in world.sim.status()["gpus"]), "all initialisations have begun")
    assert modes(daemon, world) == [DISABLED] * 2
    assert not daemon.notifications.has("^READY=1$"), "the daemon reported READY=1 before the opens were over"
    world.sim.ctl("hang", gpu="all", on=False)
    daemon.wait_ready()
    assert modes(daemon, world) == [ENABLED] * 2


@one_by_one
def test_while_gpus_initialise_the_daemon_asks_systemd_for_more_time(world):
    world.simulate(gpus=1, gpu0="hang = open")
    daemon = world.begin()
    daemon.notifications.wait_for(r"^EXTEND_TIMEOUT_USEC=\d+$", timeout=20)
    world.sim.ctl("hang", gpu=world.gpus[0], on=False)
    daemon.wait_ready()


# ---- failing and hanging


def test_a_gpu_that_fails_does_not_prevent_the_others_from_being_held(world):
    world.simulate(gpus=8, gpu3="fail_opens = all")
    daemon = world.start()
    assert modes(daemon, world) == [ENABLED] * 3 + [DISABLED] + [ENABLED] * 4
    daemon.wait_for_log(rf"device {world.gpus[3]} - failed to open\.")


@tries_again
def test_a_gpu_that_failed_is_retried_until_it_is_held(world):
    world.simulate(gpus=8, gpu3="fail_opens = 2")
    daemon = world.start("--verbose")
    daemon.wait_for_log(rf"device {world.gpus[3]} - persistence mode enabled\.", timeout=30)
    assert modes(daemon, world) == [ENABLED] * 8
    failed = [record["gpu"] for record in world.sim.journal("initialisation-failed")]
    assert failed == [world.gpus[3]] * 2


@tries_again
def test_a_set_on_that_fails_returns_a_driver_error_and_is_retried_in_the_background(world):
    world.simulate(gpus=2, gpu1="fail_opens = 1")
    daemon = world.start("--verbose", "--no-persistence-mode")
    assert daemon.set(world.gpus[1], rpc.ENABLED) == rpc.DRIVER
    daemon.wait_for_log(rf"device {world.gpus[1]} - persistence mode enabled\.", timeout=30)
    assert daemon.get(world.gpus[1]) == ENABLED


def test_a_set_on_that_fails_leaves_the_gpu_disabled(world):
    world.simulate(gpus=2, gpu1="fail_opens = all")
    daemon = world.start("--no-persistence-mode")
    assert daemon.set(world.gpus[1], rpc.ENABLED) == rpc.DRIVER
    assert daemon.get(world.gpus[1]) == DISABLED
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS


@tries_again
def test_a_set_off_ends_the_retries(world):
    world.simulate(gpus=2, gpu1="fail_opens = all")
    daemon = world.start("--verbose")
    assert daemon.set(world.gpus[1], rpc.DISABLED) == rpc.SUCCESS
    world.sim.ctl("fail", gpu=world.gpus[1], count=0)
    assert daemon.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    assert world.sim.gpu(world.gpus[1])["initialisations"] == 0
    assert daemon.set(world.gpus[1], rpc.ENABLED) == rpc.SUCCESS


@one_by_one
def test_a_gpu_that_hangs_delays_neither_the_others_nor_clients_nor_the_stop(world):
    world.simulate(gpus=8, gpu5="hang = open")
    daemon = world.begin("--verbose")
    others = [address for number, address in enumerate(world.gpus) if number != 5]
    for address in others:
        daemon.wait_for_log(rf"device {address} - persistence mode enabled\.")
    assert [daemon.get(address) for address in others] == [ENABLED] * 7
    assert daemon.get(world.gpus[5]) == DISABLED
    assert daemon.set(others[0], rpc.DISABLED) == rpc.SUCCESS
    assert daemon.stop(timeout=5) is not None
    for address in others:
        wait_until(lambda: not world.sim.gpu(address)["initialised"], f"{address} is torn down")


@one_by_one
def test_a_stop_during_the_start_is_in_time_and_leaves_no_gpu_held(world):
    world.simulate(gpus=8, defaults="lock = 0ms\ninit = 1s\nteardown = 1ms\n")
    daemon = world.begin("--verbose")
    daemon.wait_socket()
    wait_until(lambda: any(gpu["initialising"] for gpu in world.sim.status()["gpus"]), "an initialisation has begun")
    assert daemon.stop(timeout=5) == 0
    assert not daemon.socket_path.exists() and not daemon.pid_file.exists()
    wait_until(lambda: not any(gpu["initialised"] or gpu["initialising"] for gpu in world.sim.status()["gpus"]),
               "all GPUs are cold")


@one_by_one
def test_a_stop_names_a_gpu_that_does_not_close_and_removes_its_files_in_time(world):
    """No process can end while one of its threads is in close() in the kernel."""
    world.simulate(gpus=2, gpu1="hang = close")
    daemon = world.start("--verbose")
    daemon.terminate()
    daemon.wait_for_log(rf"device {world.gpus[1]} - .*the driver", timeout=5)
    daemon.wait_for_log(rf"Shutdown \({daemon.pid}\)")
    assert not daemon.socket_path.exists() and not daemon.pid_file.exists()
    world.sim.ctl("hang", gpu=world.gpus[1], on=False, which="close")
    assert daemon.wait_exit() == 0
