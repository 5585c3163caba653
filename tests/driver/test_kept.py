# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The keeper on the driver, during restarts and after kills. Here the daemon forks the keeper."""

import os
import signal

import pytest

from harness import events, process

ALL = range(4)


def counts(driver):
    """Returns for each GPU the initialisations, the teardowns and the usage count."""
    return [(gpu["initialisations"], gpu["teardowns"], gpu["usage_count"]) for gpu in driver.gpus()]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL])
def test_a_restart_or_a_kill_causes_no_initialisation_and_no_teardown(driver, service, number):
    service.start()
    service.wait_held(*ALL)
    for _ in range(2):
        service.end(number)
        assert counts(driver) == [(1, 0, 1)] * 4, "the keeper has them"
        daemon = service.start()
        service.wait_held(*ALL)
        assert daemon.open_nodes() == ["nvidia0", "nvidia1", "nvidia2", "nvidia3"]
    assert counts(driver) == [(1, 0, 1)] * 4


@pytest.mark.times(init=3000)
def test_a_gpu_whose_initialisation_a_kill_interrupted_is_taken_over_by_the_next_daemon(driver, service):
    service.begin()
    driver.wait(0, initialising=True)
    if not driver.defers_opens:  # the open itself blocks, so there is no descriptor yet
        service.end(signal.SIGKILL, timeout=30)
        service.start()
        service.wait_held(*ALL)
        return
    events.wait_until(lambda: len(service.site.kept()) == 4, "the keeper has all four")
    service.end(signal.SIGKILL)
    service.start()
    service.wait_held(*ALL)
    assert counts(driver) == [(1, 0, 1)] * 4


def test_without_another_daemon_the_keeper_releases_every_gpu(driver, service):
    service.start("--keeper-timeout", "1")
    service.wait_held(*ALL)
    service.end(signal.SIGKILL)
    for gpu in ALL:
        driver.wait(gpu, initialisations=1, teardowns=1, usage_count=0)


def test_a_signal_to_daemon_and_keeper_tears_every_gpu_down(driver, service):
    """As `killall nvidia-persistenced` does."""
    service.start()
    service.wait_held(*ALL)
    keeper, = service.site.keepers()
    os.kill(keeper, signal.SIGTERM)
    service.end(signal.SIGTERM)
    assert process.wait_gone(keeper, 10)
    for gpu in ALL:
        driver.wait(gpu, initialisations=1, teardowns=1, usage_count=0)


def test_a_killed_keeper_is_replaced_and_no_gpu_is_torn_down(driver, service):
    service.start()
    service.wait_held(*ALL)
    keeper, = service.site.keepers()
    os.kill(keeper, signal.SIGKILL)
    assert process.wait_gone(keeper, 10)
    events.wait_until(lambda: len(service.site.kept()) == 4, "another keeper has all four")
    service.end(signal.SIGKILL)
    service.start()
    service.wait_held(*ALL)
    assert counts(driver) == [(1, 0, 1)] * 4
