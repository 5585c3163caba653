# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The ioctls of nvidiactl and of GPUs."""

import errno
import os
import subprocess
import sys

from harness import abi, process

BLOCK = 128 << 20


def test_the_list_has_each_gpu_with_its_minor(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.card_info(fd) == dict(zip(driver.addresses, range(4)))


def test_the_version_is_reported_and_checked(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.check_version(fd, "", ord("2"))[1] == driver.version
        assert abi.check_version(fd, driver.version, 0) == (True, driver.version)
        assert abi.ioctl_errno(fd, 210, bytes(8) + b"1.2.3".ljust(64, b"\0")) == errno.EINVAL


def test_a_wrong_size_of_a_structure_is_einval(driver):
    with driver.opened(abi.CONTROL_NODE) as ctl, driver.opened(0) as gpu:
        for number, size in ((200, 71), (206, 12), (209, 16), (210, 64), (214, 4), (0x2a, 24), (0x2b, 40)):
            assert abi.ioctl_errno(ctl, number, bytes(size)) == errno.EINVAL, number
        for number, size in ((215, 552), (215, 564), (216, 8)):
            assert abi.ioctl_errno(gpu, number, bytes(size)) == errno.EINVAL, number
        assert abi.numa_info(gpu) != errno.EINVAL


def test_an_unknown_number_is_einval(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.ioctl_errno(fd, 77, bytes(8)) == errno.EINVAL


def test_an_ioctl_for_the_other_kind_of_node_is_einval(driver):
    with driver.opened(abi.CONTROL_NODE) as ctl, driver.opened(0) as gpu:
        assert abi.ioctl_errno(gpu, 200, bytes(72 * 32)) == errno.EINVAL
        assert abi.ioctl_errno(gpu, 214, bytes(8)) == errno.EINVAL
        assert abi.ioctl_errno(gpu, 209, bytes(12)) == errno.EINVAL
        assert abi.ioctl_errno(gpu, 212, bytes(4)) == errno.EINVAL
        assert abi.numa_info(ctl) == errno.EINVAL


def test_a_second_different_block_size_is_ebusy(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.sys_params(fd, BLOCK) == 0
        assert abi.sys_params(fd, BLOCK) == 0
        assert abi.sys_params(fd, BLOCK * 2) == errno.EBUSY


def test_attached_gpus_are_held_until_the_file_is_closed(driver):
    ids = [abi.gpu_id(address) for address in driver.addresses]
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.attach_gpus(fd, ids[0], 0, ids[1]) == 0
        assert [gpu["usage_count"] for gpu in driver.gpus()] == [1, 1, 0, 0]
        assert abi.attach_gpus(fd, ids[2]) == errno.EINVAL, "only once for each file"
    assert [gpu["initialised"] for gpu in driver.gpus()] == [False] * 4


def test_an_attachment_of_a_missing_gpu_is_einval_and_attaches_none(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.attach_gpus(fd, abi.gpu_id(driver.addresses[0]), 0xbad00) == errno.EINVAL
        assert [gpu["usage_count"] for gpu in driver.gpus()] == [0] * 4


def test_an_attachment_of_a_gpu_that_does_not_open_is_einval_and_attaches_none(driver):
    driver.fail(1)
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.attach_gpus(fd, *(abi.gpu_id(address) for address in driver.addresses[:2])) == errno.EINVAL
        assert [gpu["usage_count"] for gpu in driver.gpus()] == [0] * 4


def test_an_attachment_of_none_is_einval(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.ioctl_errno(fd, 212, b"") == errno.EINVAL


def test_only_root_sets_the_numa_status(driver):
    code = ("import fcntl, sys\n"
            "try:\n"
            "    fcntl.ioctl(int(sys.argv[1]), int(sys.argv[2]), bytearray(4))\n"
            "except OSError as error:\n"
            "    print(error.errno)\n")
    with driver.opened(0) as fd:
        done = subprocess.run([sys.executable, "-I", "-c", code, str(fd), str(abi.command(216, 4))], pass_fds=[fd],
                              user=process.NOBODY, group=process.NOBODY, extra_groups=[], capture_output=True,
                              text=True, check=True, cwd="/")
    assert done.stdout.strip() == str(errno.EACCES)


def test_the_numa_status_of_a_gpu_without_numa_memory_is_einval(driver):
    with driver.opened(0) as fd:
        assert abi.set_numa_status(fd, 0) == 0, "the status is already disabled"
        for status in (-1, 1, 3, 7, 99):
            assert abi.set_numa_status(fd, status) == errno.EINVAL, status


def test_the_status_of_a_missing_gpu_is_an_error(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        failed = None
        try:
            abi.status_code(fd, "0001:99:00.0")
        except OSError as error:
            failed = error.errno
    assert failed == errno.EINVAL


def test_the_status_of_a_gpu_that_was_never_initialised_is_invalid_state(driver):
    driver.unbind(0)
    driver.bind(0)
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.status_code(fd, driver.addresses[0]) == abi.INVALID_STATE


# ---- what /proc and /sys say


def test_the_interrupts_folder_has_a_file_while_the_gpu_is_initialised(driver):
    assert not driver.interrupts(0)
    with driver.opened(0):
        assert len(driver.interrupts(0)) == 1
    assert driver.interrupts(0) == [], "after a teardown the folder stays, empty"


def test_a_failed_initialisation_leaves_an_empty_interrupts_folder(driver):
    driver.unbind(0)
    driver.bind(0)
    assert driver.interrupts(0) is None
    driver.fail(0)
    assert driver.open_errno(0) == errno.EIO
    assert driver.interrupts(0) == []


def test_the_information_of_a_gpu_has_its_minor_and_after_an_initialisation_its_uuid(driver):
    driver.unbind(0)
    driver.bind(0)
    cold = driver.read_proc(0, "information")
    assert f"Device Minor: \t {driver.gpu(0)['minor']}\n" in cold
    assert f"Bus Location: \t {driver.addresses[0]}\n" in cold
    assert "GPU-????????-????-????-????-????????????" in cold
    assert driver.open_errno(0) == 0
    uuid = driver.gpu(0)["uuid"].hex()
    text = "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
    assert f"GPU UUID: \t GPU-{text}\n" in driver.read_proc(0, "information")


def test_the_version_in_proc_is_the_modules(driver):
    text = (driver.root / "proc/driver/nvidia/version").read_text()
    assert driver.version in text.splitlines()[0].split()
    assert os.access(driver.root / "proc/driver/nvidia/params", os.R_OK)
