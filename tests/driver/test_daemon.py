# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The daemon on the driver: holding, failures, hangs, hot-plug, leases."""

import signal
import time

import pytest

from harness import events, rpc

ALL = range(4)


@pytest.fixture
def daemon(service):
    """A ready daemon that holds all four GPUs."""
    started = service.start()
    service.wait_held(*ALL)
    return started


def counts(driver):
    """Returns for each GPU the initialisations, the teardowns and the usage count."""
    return [(gpu["initialisations"], gpu["teardowns"], gpu["usage_count"]) for gpu in driver.gpus()]


# ---- holding


def test_once_ready_every_gpu_is_initialised_once_and_held(driver, daemon):
    assert counts(driver) == [(1, 0, 1)] * 4
    assert daemon.open_nodes() == ["nvidia0", "nvidia1", "nvidia2", "nvidia3"]


@pytest.mark.times(lock=200, init=1500)
def test_gpus_are_initialised_at_the_same_time_if_the_driver_supports_that(driver, service):
    start = time.monotonic()
    service.start()
    service.wait_held(*ALL)
    spent = time.monotonic() - start
    if driver.defers_opens:
        assert spent < 4 * 1.7
    else:
        assert spent >= 4 * 1.7


def test_a_job_on_a_held_gpu_causes_no_initialisation_and_no_teardown(driver, daemon):
    with driver.opened(0):
        assert driver.gpu(0)["usage_count"] == 2
    driver.wait(0, usage_count=1)  # while the GPU has another user, the simulator may notice a close after it returned
    assert counts(driver) == [(1, 0, 1)] * 4


def test_a_stop_tears_every_gpu_down(driver, daemon):
    assert daemon.stop() == 0
    for gpu in ALL:
        driver.wait(gpu, initialisations=1, teardowns=1, usage_count=0)


@pytest.mark.times(teardown=300)
def test_a_set_off_is_answered_after_the_teardown_and_a_set_on_when_the_gpu_is_held(driver, daemon):
    assert daemon.set(driver.addresses[0], rpc.DISABLED) == rpc.SUCCESS
    assert counts(driver)[0] == (1, 1, 0)
    assert daemon.set(driver.addresses[0], rpc.ENABLED) == rpc.SUCCESS
    assert counts(driver) == [(2, 1, 1), (1, 0, 1), (1, 0, 1), (1, 0, 1)]


def test_status_reports_a_released_gpu_as_not_persistent(driver, service, daemon):
    assert daemon.set(driver.addresses[0], rpc.DISABLED) == rpc.SUCCESS
    assert "kernel flag" not in service.holdfast("status").stdout


# ---- failures


def test_a_failing_gpu_is_retried_until_it_is_held_and_does_not_delay_the_others(driver, service):
    driver.fail(1, 2)
    service.start()
    service.wait_held(0, 2, 3)
    service.wait_held(1)
    assert counts(driver) == [(1, 0, 1)] * 4


def test_a_gpu_that_always_fails_is_reported_with_the_drivers_status(driver, service):
    driver.fail(1, -1, 0x1c)
    service.start()
    service.wait_held(0, 2, 3)
    told = service.holdfast("status").stdout
    assert "kernel flag" not in told
    events.wait_until(lambda: "EIO" in str(service.gpus()[driver.addresses[1]])
                      or "Input/output error" in str(service.gpus()[driver.addresses[1]]), "its reason", 20)


# ---- hangs


def test_from_550_on_a_hanging_initialisation_does_not_delay_the_other_gpus(driver, service):
    driver.hang(1)
    service.begin("--stuck-timeout=2")
    if driver.defers_opens:
        service.wait_held(0, 2, 3)
        assert not service.gpus()[driver.addresses[1]]["held"]
    else:
        driver.wait(1, initialising=True)
    driver.hang(1, on=False)
    service.wait_held(*ALL)


@pytest.mark.parametrize("which", ["open", "close"])
def test_a_stop_while_a_gpu_hangs_removes_the_daemons_files_in_time(driver, service, which):
    """A process ends only after the driver has returned from its calls. A deferred open (from 550 on) is an exception: if a
    signal ends the process, the driver does not wait for the open. So the daemon then ends itself by a signal."""
    if which == "open":
        driver.hang(1)
        daemon = service.begin()
        daemon.wait_socket()
        driver.wait(1, initialising=True)
    else:
        daemon = service.start()
        service.wait_held(*ALL)
        driver.hang(1, which)
    daemon.terminate()
    events.wait_until(lambda: not daemon.socket_path.exists() and not daemon.pid_file.exists(), "its files are gone", 6)
    if which == "open" and driver.defers_opens:
        assert daemon.wait_exit(6) == -signal.SIGTERM
        driver.hang(1, which, on=False)
    else:
        driver.hang(1, which, on=False)
        assert daemon.wait_exit(20) is not None
    for gpu in ALL:
        driver.wait(gpu, usage_count=0, initialised=False)


def test_a_set_of_one_gpu_is_answered_while_another_hangs_in_its_teardown(driver, service, daemon):
    driver.hang(1, "close")
    off = driver.later(daemon.set, driver.addresses[1], rpc.DISABLED, 60)
    assert not off.ended(1)
    start = time.monotonic()
    assert daemon.get(driver.addresses[0]) == (rpc.SUCCESS, rpc.ENABLED)
    assert time.monotonic() - start < 2
    driver.hang(1, "close", on=False)
    assert off.result() == rpc.SUCCESS


# ---- leases


def test_a_lease_of_all_gpus_begins_after_all_teardowns_and_ends_with_all_gpus_held(driver, service, daemon):
    flag = service.site.base / "during"
    script = f"cat /proc/holdfast-lab >{flag}" if driver.name == "nvidia" else f"date >{flag}"
    done = service.holdfast("release", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert flag.exists()
    service.wait_held(*ALL)
    assert counts(driver) == [(2, 1, 1)] * 4


def test_from_550_on_a_release_while_another_gpu_hangs_takes_under_3_seconds(driver, service, daemon):
    """In older drivers every teardown waits for every initialisation (test_open.py)."""
    assert daemon.set(driver.addresses[1], rpc.DISABLED) == rpc.SUCCESS
    driver.hang(1)
    stuck = driver.open_later(1)
    driver.wait(1, initialising=True)
    flag = service.site.base / "released"
    start = time.monotonic()
    release = driver.later(service.holdfast, "release", "--gpu", driver.addresses[0], "--", "touch", flag)
    if driver.defers_opens:
        events.wait_until(flag.exists, "the command runs", 10)
        assert time.monotonic() - start < 3
    else:
        assert not release.ended(2)
    driver.hang(1, on=False)
    release.result(60)
    stuck.close()
    service.wait_held(0, 2, 3)


# ---- hot-plug


@pytest.mark.parametrize("how", ["unbind", "remove"])
def test_an_unbind_of_a_held_gpu_ends_within_2_seconds(driver, service, daemon, how):
    """The daemon sees the driver's notice, or before 575.51.02 its line in the kernel log. The driver looks for users each half
    second."""
    start = time.monotonic()
    driver.later(getattr(driver, how), 0).result(20)
    assert time.monotonic() - start < 2
    (driver.bind if how == "unbind" else driver.add)(0)
    service.wait_held(*ALL)
    assert counts(driver)[1:] == [(1, 0, 1)] * 3


def unbind_released(driver, daemon, gpu):
    assert daemon.set(driver.addresses[gpu], rpc.DISABLED) == rpc.SUCCESS
    driver.later(driver.unbind, gpu).result()


def test_a_gpu_that_is_bound_again_is_found_with_the_mode_that_a_client_set(driver, service, daemon):
    unbind_released(driver, daemon, 0)
    driver.bind(0)
    events.wait_until(lambda: daemon.get(driver.addresses[0]) == (rpc.SUCCESS, rpc.DISABLED), "it is known again", 20)
    # The daemon may have answered with the state from before the unbind. Until its next scan, a Set may fail.
    events.wait_until(lambda: daemon.set(driver.addresses[0], rpc.ENABLED) == rpc.SUCCESS, "it is held", 20)
    service.wait_held(*ALL)


def test_a_gpu_that_vanishes_is_released_and_held_again_when_it_is_back(driver, service, daemon):
    driver.lose(0)
    driver.later(driver.remove, 0).result()
    driver.add(0)
    service.wait_held(*ALL)


def test_gpus_that_change_their_minors_are_not_confused(driver, service, daemon):
    for gpu in (0, 2):
        unbind_released(driver, daemon, gpu)
    for gpu in (2, 0):
        driver.bind(gpu)
    for gpu in (0, 2):
        events.wait_until(lambda: daemon.set(driver.addresses[gpu], rpc.ENABLED) == rpc.SUCCESS, "it is held", 20)
    service.wait_held(*ALL)
    assert [gpu["minor"] for gpu in driver.gpus()] == [2, 1, 0, 3]
