# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Opens and closes of GPUs: what they do, which of them block each other, and how they fail."""

import errno
import os
import subprocess
import sys
import time

import pytest

from harness import abi

SHORT = 1  # seconds; a call that is not blocked ends within this time even on a slow machine


def close_all(*openings):
    for opening in openings:
        opening.close()


def open_at_once(driver, gpus):
    """Opens these GPUs at the same time and closes them; returns the seconds until the last was open."""
    start = time.monotonic()
    opens = [driver.open_later(gpu) for gpu in gpus]
    for each in opens:
        each.result()
    spent = time.monotonic() - start
    close_all(*opens)
    return spent


# ---- initialisation and teardown


def test_the_first_open_initialises_and_the_last_close_tears_down(driver):
    with driver.opened(0):
        with driver.opened(0):
            gpu = driver.gpu(0)
            assert (gpu["usage_count"], gpu["initialisations"], gpu["initialised"]) == (2, 1, True)
        assert (driver.gpu(0)["usage_count"], driver.gpu(0)["teardowns"]) == (1, 0)
    gpu = driver.gpu(0)
    assert (gpu["usage_count"], gpu["teardowns"], gpu["initialised"]) == (0, 1, False)


@pytest.mark.times(teardown=500)
def test_the_last_close_returns_after_the_teardown(driver):
    fd = driver.open(0)
    start = time.monotonic()
    os.close(fd)
    assert time.monotonic() - start >= 0.5
    assert driver.gpu(0)["teardowns"] == 1


def test_a_duplicated_descriptor_keeps_the_gpu_initialised(driver):
    with driver.opened(0) as fd:
        copy = os.dup(fd)
        os.close(fd)
        assert driver.gpu(0)["usage_count"] == 1
        os.close(copy)
        assert driver.gpu(0)["usage_count"] == 0


@pytest.mark.times(lock=300, init=1000)
def test_initialisations_of_different_gpus_overlap_from_550_on(driver):
    spent = open_at_once(driver, range(4))
    if driver.defers_opens:
        assert 2.2 <= spent < 4 * 1.3
    else:
        assert spent >= 4 * 1.3


@pytest.mark.times(teardown=400)
def test_teardowns_do_not_overlap(driver):
    descriptors = [driver.open(gpu) for gpu in range(3)]
    start = time.monotonic()
    closes = [driver.later(os.close, fd) for fd in descriptors]
    for each in closes:
        each.result()
    assert time.monotonic() - start >= 3 * 0.4


# ---- which calls block each other


def test_while_a_gpu_initialises_others_can_be_opened_from_550_on(driver):
    driver.hang(0)
    first = driver.open_later(0)
    driver.wait(0, initialising=True)
    other = driver.open_later(1)
    assert other.ended(SHORT) == driver.defers_opens
    driver.hang(0, on=False)
    close_all(first, other)


def test_while_a_gpu_initialises_nvidiactl_can_be_opened_from_550_on(driver):
    driver.hang(0)
    first = driver.open_later(0)
    driver.wait(0, initialising=True)
    other = driver.open_later(abi.CONTROL_NODE)
    assert other.ended(SHORT) == driver.defers_opens
    driver.hang(0, on=False)
    close_all(first, other)


def test_a_second_blocking_open_of_a_busy_gpu_blocks_opens_of_other_gpus(driver):
    driver.hang(0)
    first = driver.open_later(0)
    driver.wait(0, initialising=True)
    second = driver.open_later(0)
    assert not second.ended(SHORT)
    other = driver.open_later(1)
    assert not other.ended(SHORT)
    driver.hang(0, on=False)
    close_all(first, second, other)


def test_a_deferred_open_of_a_busy_gpu_blocks_no_other_open(driver):
    if not driver.defers_opens:
        return
    driver.hang(0)
    first = driver.open_later(0)
    driver.wait(0, initialising=True)
    with driver.opened(0, os.O_NONBLOCK) as second:
        with driver.opened(1):
            pass
        driver.hang(0, on=False)
        first.close()
        assert abi.wait_open(second) == (0, abi.NV_OK)


def test_the_status_of_a_gpu_waits_for_the_lock_of_the_device_list(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        driver.hang(0)
        first = driver.open_later(0)
        driver.wait(0, initialising=True)
        second = driver.open_later(0)
        assert not second.ended(SHORT)
        status = driver.later(abi.status_code, fd, driver.addresses[1])
        assert not status.ended(SHORT)
        driver.hang(0, on=False)
        close_all(first, second)
        assert status.result() in (abi.INVALID_STATE, abi.NV_OK)


def test_while_a_gpu_initialises_others_can_be_torn_down_from_550_on(driver):
    fd = driver.open(1)
    driver.hang(0)
    first = driver.open_later(0)
    driver.wait(0, initialising=True)
    close = driver.later(os.close, fd)
    assert close.ended(SHORT) == driver.defers_opens
    driver.hang(0, on=False)
    close.result()
    first.close()


def test_a_hanging_teardown_blocks_opens_of_other_gpus(driver):
    fd = driver.open(0)
    driver.hang(0, "close")
    close = driver.later(os.close, fd)
    assert not close.ended(SHORT)
    other = driver.open_later(1)
    assert not other.ended(SHORT)
    driver.hang(0, "close", on=False)
    close.result()
    other.close()


def test_a_hanging_teardown_blocks_opens_of_initialised_gpus_too(driver):
    with driver.opened(1):
        fd = driver.open(0)
        driver.hang(0, "close")
        close = driver.later(os.close, fd)
        assert not close.ended(SHORT)
        other = driver.open_later(1)
        assert not other.ended(SHORT)
        driver.hang(0, "close", on=False)
        close.result()
        other.close()


# ---- O_NONBLOCK


@pytest.mark.times(lock=0, init=1500)
def test_a_nonblocking_open_is_deferred_from_550_on(driver):
    start = time.monotonic()
    with driver.opened(0, os.O_NONBLOCK) as fd:
        spent = time.monotonic() - start
        assert (spent < 1.4) == driver.defers_opens
        if driver.defers_opens:
            assert abi.wait_open(fd) == (0, abi.NV_OK)
        assert driver.gpu(0)["initialised"]


def test_a_nonblocking_open_of_an_initialised_gpu_is_complete_at_once(driver):
    with driver.opened(0), driver.opened(0, os.O_NONBLOCK) as fd:
        assert driver.gpu(0)["usage_count"] == 2
        if driver.defers_opens:
            assert abi.wait_open(fd) == (0, abi.NV_OK)


def test_wait_open_complete_is_unknown_before_550(driver):
    with driver.opened(0) as fd:
        assert abi.ioctl_errno(fd, 218, bytes(8)) == (0 if driver.defers_opens else errno.EINVAL)


def test_wait_open_complete_on_nvidiactl_returns_zeros_from_550_on(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        if driver.defers_opens:
            assert abi.wait_open(fd) == (0, 0)
        else:
            assert abi.ioctl_errno(fd, 218, bytes(8)) == errno.EINVAL


def test_a_deferred_open_that_fails_leaves_a_dead_file(driver):
    if not driver.defers_opens:
        return
    driver.fail(0, 1, abi.GPU_IS_LOST)
    with driver.opened(0, os.O_NONBLOCK) as fd:
        assert abi.wait_open(fd) == (-errno.EIO, abi.GPU_IS_LOST)
        assert abi.wait_open(fd) == (-errno.EIO, abi.GPU_IS_LOST)
        assert abi.numa_info(fd) == errno.EIO
        assert driver.gpu(0)["usage_count"] == 0


def test_a_signal_interrupts_the_wait_for_a_deferred_open(driver):
    if not driver.defers_opens:
        return
    driver.hang(0)
    code = ("import fcntl, os, signal, sys\n"
            "fd = os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK)\n"
            "def on_alarm(*_):\n"
            "    print('interrupted', flush=True)\n"
            "    os._exit(3)\n"
            "signal.signal(signal.SIGALRM, on_alarm)\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
            "fcntl.ioctl(fd, int(sys.argv[2]), bytearray(8))\n")
    with subprocess.Popen([sys.executable, "-I", "-c", code, driver.node(0), str(abi.command(218, 8))],
                          stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"interrupted\n"
        driver.hang(0, on=False)  # its exit closes the file, and the close waits for the open
        assert process.wait(20) == 3


def test_a_close_of_a_deferred_open_waits_for_it(driver):
    if not driver.defers_opens:
        return
    driver.hang(0)
    fd = driver.open(0, os.O_NONBLOCK)
    driver.wait(0, initialising=True)
    close = driver.later(os.close, fd)
    assert not close.ended(SHORT)
    driver.hang(0, on=False)
    close.result()
    driver.wait(0, usage_count=0, initialised=False)


def test_a_process_that_exits_with_a_deferred_open_waits_for_it(driver):
    if not driver.defers_opens:
        return
    driver.hang(0)
    code = "import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK); print('open', flush=True)"
    with subprocess.Popen([sys.executable, "-I", "-c", code, driver.node(0)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        driver.hang(0, on=False)
        assert process.wait(20) == 0


def test_a_killed_process_does_not_wait_for_its_deferred_open(driver):
    if not driver.defers_opens:
        return
    driver.hang(0)
    code = ("import os, sys, signal; os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK)\n"
            "print('open', flush=True); signal.pause()")
    with subprocess.Popen([sys.executable, "-I", "-c", code, driver.node(0)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        driver.wait(0, initialising=True)
        process.kill()
        assert process.wait(10) == -9
        driver.hang(0, on=False)
    driver.wait(0, usage_count=0, initialised=False)


# ---- failures


def test_a_failed_initialisation_is_eio_and_its_status_can_be_read(driver):
    driver.fail(0, 1, abi.INSUFFICIENT_POWER)
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.status_code(fd, driver.addresses[0]) in (abi.INVALID_STATE, abi.NV_OK)
        assert driver.open_errno(0) == errno.EIO
        assert abi.status_code(fd, driver.addresses[0]) == abi.INSUFFICIENT_POWER
        assert driver.gpu(0)["usage_count"] == 0
        assert driver.open_errno(0) == 0
        assert abi.status_code(fd, driver.addresses[0]) == abi.NV_OK


def test_a_minor_without_a_gpu_is_enodev(driver):
    node = driver.node(3)
    driver.unbind(3)
    with pytest.raises(OSError) as raised:
        os.open(node, os.O_RDWR)
    driver.bind(3)
    assert raised.value.errno == errno.ENODEV


def test_an_open_of_a_drained_uninitialised_gpu_is_eio(driver):
    driver.drain(0)
    assert driver.open_errno(0) == errno.EIO
    driver.drain(0, False)
    assert driver.open_errno(0) == 0


def test_an_open_of_a_drained_initialised_gpu_is_ebusy(driver):
    with driver.opened(0):
        driver.drain(0)
        assert driver.open_errno(0) == errno.EBUSY
        assert driver.gpu(0)["usage_count"] == 1
        driver.drain(0, False)
        assert driver.open_errno(0) == 0


@pytest.mark.times(lock=0, init=0)
def test_a_signal_does_not_interrupt_an_open_that_waits_for_its_turn(driver):
    driver.hang(0)
    first = driver.open_later(0)
    driver.wait(0, initialising=True)
    code = ("import os, signal, sys\n"
            "def on_alarm(*_):\n"
            "    raise InterruptedError\n"
            "signal.signal(signal.SIGALRM, on_alarm)\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
            "try:\n"
            "    os.open(sys.argv[1], os.O_RDWR)\n"
            "except InterruptedError:\n"
            "    os._exit(3)\n")
    second = driver.open_later(0)
    assert not second.ended(SHORT)
    with subprocess.Popen([sys.executable, "-I", "-c", code, driver.node(1)]) as process:
        try:
            interrupted = process.wait(5) == 3
        except subprocess.TimeoutExpired:
            interrupted = False
        driver.hang(0, on=False)
        close_all(first, second)
        process.wait(20)
    assert not interrupted


def test_an_unbind_ends_the_drain(driver):
    driver.drain(0)
    driver.unbind(0)
    driver.bind(0)
    assert driver.open_errno(0) == 0


# ---- the legacy flag


def test_the_legacy_flag_keeps_the_gpu_initialised_after_the_last_close(driver):
    driver.legacy(0)
    gpu = driver.gpu(0)
    assert (gpu["legacy"], gpu["usage_count"], gpu["initialised"], gpu["teardowns"]) == (True, 0, True, 0)
    assert driver.open_errno(0) == 0
    assert (driver.gpu(0)["initialisations"], driver.gpu(0)["teardowns"]) == (1, 0)
    driver.legacy(0, False)
    gpu = driver.gpu(0)
    assert (gpu["legacy"], gpu["initialised"], gpu["teardowns"]) == (False, False, 1)


def test_the_legacy_flag_does_not_delay_an_unbind_which_clears_it(driver):
    driver.legacy(0)
    driver.later(driver.unbind, 0).result()
    assert driver.gpu(0)["teardowns"] == 1
    driver.bind(0)
    assert (driver.gpu(0)["legacy"], driver.gpu(0)["initialised"]) == (False, False)
