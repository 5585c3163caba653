# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Objects and controls of the resource manager, and UVM's refusals."""

import errno
import os
import select
import struct

import pytest

from harness import abi


def test_a_root_client_on_a_gpus_file_is_einval(driver):
    with driver.opened(0) as fd, pytest.raises(OSError) as raised:
        abi.rm_alloc(fd, 0, 0, 0, abi.ROOT_CLIENT)
    assert raised.value.errno == errno.EINVAL


def test_a_control_of_a_missing_object_is_0x57(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        client = abi.Client(fd)
        assert client.control(0xbad, abi.SET_NOTIFICATION, struct.pack("II", 3, 2))[0] == abi.OBJECT_NOT_FOUND


def test_a_client_ends_with_its_file(driver):
    with driver.opened(abi.CONTROL_NODE) as fd, driver.opened(abi.CONTROL_NODE) as other:
        client = abi.Client(fd)
        os.close(fd)
        client.fd = other
        status = client.control(client.handle, abi.SET_NOTIFICATION, struct.pack("II", 3, 2))[0]
        assert status in (abi.INVALID_CLIENT, abi.OBJECT_NOT_FOUND)


def test_a_device_object_of_an_uninitialised_gpu_without_an_open_node_is_refused(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        assert abi.Client(fd).device(0) != abi.NV_OK


def test_the_resource_manager_does_not_know_the_id_of_an_uninitialised_gpu(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        client = abi.Client(fd)
        question = struct.pack("I", abi.gpu_id(driver.addresses[0])) + bytes(28)
        assert client.control(client.handle, abi.GET_ID_INFO, question)[0] == abi.INVALID_ARGUMENT


def test_a_subscription_to_notices_succeeds(driver):
    with driver.opened(abi.CONTROL_NODE) as fd, driver.opened(abi.CONTROL_NODE) as event_fd:
        assert abi.Client(fd).subscribe(event_fd) == (abi.NV_OK, abi.NV_OK, abi.NV_OK)


def test_a_notice_cannot_be_fetched_before_575(driver):
    with driver.opened(abi.CONTROL_NODE) as fd, driver.opened(abi.CONTROL_NODE) as event_fd:
        client = abi.Client(fd)
        client.subscribe(event_fd)
        status = client.control(client.handle, abi.GET_SYSTEM_EVENT_DATA, bytes(12))[0]
        assert status == (abi.INVALID_ARGUMENT if driver.numbers < (575, 51, 2) else abi.OBJECT_NOT_FOUND)


def test_an_unbind_causes_no_notice_before_575(driver):
    with driver.opened(abi.CONTROL_NODE) as fd, driver.opened(abi.CONTROL_NODE) as event_fd:
        abi.Client(fd).subscribe(event_fd)
        poll = select.poll()
        poll.register(event_fd, select.POLLIN)
        driver.later(driver.unbind, 0).result()
        told = bool(poll.poll(1000))
        driver.bind(0)
        assert told == (driver.numbers >= (575, 51, 2))


def test_a_bad_pointer_is_an_error_of_the_call(driver):
    with driver.opened(abi.CONTROL_NODE) as fd:
        client = abi.Client(fd)
        answer = abi.ioctl(fd, 0x2a, struct.pack("IIIIQII", client.handle, client.handle, abi.SET_NOTIFICATION, 0, 8,
                                                 8, 0))
        assert struct.unpack("IIIIQII", answer)[6] == 0x1e


# ---- UVM


def test_uvm_registers_nothing_before_it_is_initialised(driver):
    with driver.opened(abi.UVM_NODE) as fd:
        assert abi.uvm_register(fd, driver.gpu(0)["uuid"]) == abi.ILLEGAL_ACTION


def test_uvm_does_not_know_a_gpu_that_the_driver_does_not_list(driver):
    with driver.opened(abi.UVM_NODE) as fd:
        assert abi.uvm_initialize(fd) == abi.NV_OK
        assert abi.uvm_register(fd, b"no such GPU here") == abi.GPU_UUID_NOT_FOUND


def test_uvm_initialises_a_gpu_before_it_refuses_the_caller(driver):
    with driver.opened(abi.UVM_NODE) as fd:
        assert abi.uvm_initialize(fd) == abi.NV_OK
        assert abi.uvm_register(fd, driver.gpu(0)["uuid"]) != abi.NV_OK, "this process has not its node open"
        gpu = driver.gpu(0)
        assert (gpu["initialisations"], gpu["teardowns"], gpu["usage_count"]) == (1, 1, 0)


def test_uvm_unregisters_nothing_that_is_not_registered(driver):
    with driver.opened(abi.UVM_NODE) as fd:
        assert abi.uvm_initialize(fd) == abi.NV_OK
        assert abi.uvm_unregister(fd, driver.gpu(0)["uuid"]) == abi.INVALID_DEVICE


def test_uvm_initialises_one_gpu_after_another_to_find_one_that_was_never_initialised(driver):
    uuid = driver.gpu(3)["uuid"]
    for gpu in range(4):
        driver.unbind(gpu)
    for gpu in range(4):
        driver.bind(gpu)
    before = [gpu["initialisations"] for gpu in driver.gpus()]
    with driver.opened(abi.UVM_NODE) as fd:
        assert abi.uvm_initialize(fd) == abi.NV_OK
        abi.uvm_register(fd, uuid)
    tried = [now["initialisations"] - then for now, then in zip(driver.gpus(), before)]
    assert tried[3] == 1 and sum(tried) >= 1
