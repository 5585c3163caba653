# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""GPUs that are unbound, removed from the bus or vanish, and that come back."""

import errno
import os
import select

from harness import abi

SHORT = 1.5  # seconds; the driver looks for users each half second


def test_an_unbind_waits_for_the_last_user(driver):
    with driver.opened(0) as fd:
        unbind = driver.later(driver.unbind, 0)
        assert not unbind.ended(SHORT)
        os.close(fd)
        unbind.result()
    assert not driver.gpu(0)["bound"]
    driver.bind(0)
    assert driver.open_errno(0) == 0


def test_a_removal_waits_for_the_last_user(driver):
    with driver.opened(0) as fd:
        removal = driver.later(driver.remove, 0)
        assert not removal.ended(SHORT)
        os.close(fd)
        removal.result()
    assert not (driver.root / "sys/bus/pci/devices" / driver.addresses[0]).exists()
    driver.add(0)
    assert driver.open_errno(0) == 0


def test_while_an_unbind_waits_blocking_opens_succeed_before_595(driver):
    with driver.opened(0) as fd:
        unbind = driver.later(driver.unbind, 0)
        assert not unbind.ended(SHORT)
        allowed = driver.numbers < (595, 44, 2)
        assert driver.open_errno(0) == (0 if allowed else errno.ENODEV)
        os.close(fd)
        unbind.result()
    driver.bind(0)


def test_while_an_unbind_waits_a_nonblocking_open_of_an_initialised_gpu_is_enodev_from_595_on(driver):
    with driver.opened(0) as fd:
        unbind = driver.later(driver.unbind, 0)
        assert not unbind.ended(SHORT)
        assert driver.open_errno(0, os.O_NONBLOCK) == (errno.ENODEV if driver.numbers >= (595, 44, 2) else 0)
        os.close(fd)
        unbind.result()
    driver.bind(0)


def test_while_an_unbind_waits_an_open_that_would_be_deferred_is_ebusy(driver):
    if not driver.defers_opens:
        return
    driver.hang(0)
    first = driver.open_later(0, os.O_NONBLOCK)
    driver.wait(0, initialising=True)
    unbind = driver.later(driver.unbind, 0)
    assert not unbind.ended(SHORT)
    second = driver.later(driver.open_errno, 0, os.O_NONBLOCK)
    assert second.result(5) == errno.EBUSY
    driver.hang(0, on=False)
    first.close()
    unbind.result()
    driver.bind(0)


def test_a_gpu_that_comes_back_gets_the_lowest_free_minor(driver):
    driver.unbind(0)
    driver.unbind(2)
    driver.bind(2)
    driver.bind(0)
    assert [gpu["minor"] for gpu in driver.gpus()] == [2, 1, 0, 3]


def test_an_unbound_gpu_has_no_folder_in_proc(driver):
    folder = driver.root / "proc/driver/nvidia/gpus" / driver.addresses[0]
    assert folder.exists()
    driver.unbind(0)
    gone = not folder.exists()
    driver.bind(0)
    assert gone and folder.exists()


def test_an_unbind_clears_the_status_of_the_initialisation(driver):
    assert driver.open_errno(0) == 0
    driver.unbind(0)
    driver.bind(0)
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.status_code(fd, driver.addresses[0]) == abi.INVALID_STATE


# ---- surprise


def test_a_removal_does_not_wait_for_users_of_a_gpu_that_vanished(driver):
    with driver.opened(0) as fd:
        driver.lose(0)
        driver.later(driver.remove, 0).result(5)
        assert abi.numa_info(fd) == errno.EINVAL
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(1000) and poll.poll(1000)[0][1] & select.POLLHUP
    driver.add(0)
    assert driver.open_errno(0) == 0


def test_an_open_of_a_gpu_that_vanished_is_enodev(driver):
    driver.lose(0)
    found = driver.open_errno(0)
    driver.remove(0)
    driver.add(0)
    assert found == errno.ENODEV
