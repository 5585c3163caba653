# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The simulated driver's resource manager, as NVIDIA's programs use it: objects, and each control's answer."""

import contextlib
import os
import re
import struct
from pathlib import Path

from harness import abi
from harness.abi import (GPU_IS_LOST, INSUFFICIENT_PERMISSIONS, INVALID_ADDRESS, INVALID_ARGUMENT, INVALID_PARAM_STRUCT,
                         NOT_SUPPORTED, NV_OK, OBJECT_NOT_FOUND, gpu_id, pointed)
from harness.events import wait_until
from harness.simulator import QUICK, opened, scenario

TOP = Path(__file__).resolve().parent.parent.parent
NONE = 0xffffffff
SUBDEVICE, SUBDEVICE_CLASS = 0xd0, 0x2080
KEYS = "model = Test GPU\nuuid = GPU-00112233-4455-6677-8899-aabbccddeeff\nmemory = 1234\ntemperature = 56\n"


def simulated(make_sim, version="550.163.01", **keys):
    return make_sim(f"[driver]\nversion = {version}\n" + scenario(2, QUICK, gpu0=KEYS, **keys))


@contextlib.contextmanager
def objects(sim, minor=0):
    """A client with a device and a subdevice of a GPU, which is open meanwhile."""
    with opened(sim, "nvidiactl") as ctl, opened(sim, f"nvidia{minor}"):
        rm = abi.Client(ctl)
        assert rm.device(minor) == NV_OK
        assert rm.alloc(abi.device_handle(minor), SUBDEVICE, SUBDEVICE_CLASS, bytes(4)) == NV_OK
        yield rm


def ids(*known, room=32):
    return struct.pack(f"{room}I", *known, *[NONE] * (room - len(known)))


def index_list(indices, length):
    items = b"".join(struct.pack("II", index, 0xdead) for index in indices)
    return struct.pack("I", len(indices)) + items + bytes(length - 4 - len(items))


def data_of(answer, count):
    return [struct.unpack_from("II", answer, 4 + 8 * i)[1] for i in range(count)]


# ---- the table ----


def table_in_code():
    """(number, object, size, versions, whether only root may call it, origin) of each row. A size of None means a list."""
    text = (TOP / "sim/rm/control.c").read_text()
    rows = re.findall(r"^\s+\{(0x[0-9a-f]+), OF_(\w+), ([^,]+(?:\([^)]*\))?), (\{0\}|\w+), (true|false),\s+(\w+),", text,
                      re.MULTILINE)
    return [(int(number, 16), target.lower(), None if size == "0" else size, span, privileged == "true", origin.lower())
            for number, target, size, span, privileged, origin in rows]


def table_in_documentation():
    text = (TOP / "docs/simulator.md").read_text()
    section = text[text.index("### Controls of the resource manager"):]
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in section[:section.index("\n### ", 10)].splitlines() if line.startswith("| 0x")]


def test_the_documentation_lists_each_control_with_its_object_and_origin():
    def words(row):
        number, target, size, span, privileged, origin = row
        return (number, target, {"FROM_550": "550+", "FROM_555": "555+", "UNTIL_555": "until 555"}.get(span, ""),
                "list" if size is None else "", privileged, origin)

    documented = [(int(number, 16), target, span, "list" if size == "list" else "", "root only" in answer, origin)
                  for number, name, target, size, span, origin, answer in table_in_documentation()]
    assert len(documented) > 30 and documented == [words(row) for row in table_in_code()]


ASKED = b"\xee"


def golden(sim):
    """(number, object, parameters, answer) of each control. The driver knows both GPUs; only GPU 0 is open."""
    first, second = (gpu_id(address) for address in sim.addresses[:2])
    client, device, subdevice = None, abi.device_handle(0), SUBDEVICE
    name = b"Test GPU".ljust(64, b"\0")
    uuid = "GPU-00112233-4455-6677-8899-aabbccddeeff"
    everything = ids(first, second)
    return [
        (0x136, client, ASKED * 4, struct.pack("I", 1)),
        (0x201, client, ASKED * 128, ids(first)),
        (0x202, client, struct.pack("I", first) + bytes(36), struct.pack("IIIIQIIIi", first, 1, 0, 0, 0, 0, 0, 0, -1)),
        (0x205, client, struct.pack("I", first) + bytes(28), struct.pack("IIIIIIIi", first, 1, 0, 0, 0, 0, 0, -1)),
        (0x214, client, ASKED * 256, everything + ids()),
        (0x215, client, everything + ASKED * 4, everything + struct.pack("I", NONE)),
        (0x216, client, everything, everything),
        (0x21b, client, struct.pack("IIHH", second, 9, 9, 9), struct.pack("IIHH", second, 0, 0x2a, 0)),
        (0x279, client, struct.pack("III", second, 9, 9), struct.pack("III", second, 0, 0)),
        (0x289, client, struct.pack("I", first), struct.pack("I", first)),
        (0x800288, device, ASKED * 4, struct.pack("I", 1)),
        (0x800289, device, ASKED * 4, bytes(4)),
        (0x80028e, device, ASKED, b"\0"),
        (0x800294, device, ASKED * 4, bytes(4)),
        (0x20800110, subdevice, bytes(4) + ASKED * 128, bytes(4) + name + bytes(64)),
        (0x20800110, subdevice, struct.pack("I", 1) + ASKED * 128,
         struct.pack("I", 1) + b"".join(bytes([byte, 0]) for byte in name)),
        (0x20800131, subdevice, ASKED * 4, bytes(4)),
        (0x2080014a, subdevice, struct.pack("III", 0, 0, 0) + ASKED * 256,
         struct.pack("III", 0, 0, 41) + uuid.encode().ljust(256, b"\0")),
        (0x2080014a, subdevice, struct.pack("III", 0, 2, 0) + ASKED * 256,
         struct.pack("III", 0, 2, 16) + bytes.fromhex(uuid[4:].replace("-", "")).ljust(256, b"\0")),
        (0x20801701, subdevice, ASKED * 16, struct.pack("IIIB3x", 0x180, 0, 0xa1, 0)),
        (0x20801801, subdevice, ASKED * 16, struct.pack("IIII", 0x233010de, 0x16c110de, 0xa1, 0)),
        (0x20802068, subdevice, ASKED * 4, struct.pack("I", 1)),
        (0x20803601, subdevice, ASKED * 72, struct.pack("IBB64s2x", 0, 1, 1, b"550.163.01")),
    ]


def test_each_control_answers_according_to_the_scenario_or_the_documentation(make_sim):
    sim = simulated(make_sim)
    with objects(sim) as rm:
        for number, target, asked, expected in golden(sim):
            assert rm.control(target or rm.handle, number, asked) == (NV_OK, expected), f"control {number:#x}"


def test_a_control_accepts_only_its_own_size_and_object(make_sim):
    sim = simulated(make_sim)
    with objects(sim) as rm:
        for number, target, asked, _ in golden(sim):
            assert rm.control(target or rm.handle, number, asked + b"\0")[0] == INVALID_PARAM_STRUCT, f"{number:#x}"
            other = rm.handle if target else abi.device_handle(0)
            assert rm.control(other, number, asked)[0] == NOT_SUPPORTED, f"{number:#x} of another object"
    assert sim.status()["unknown_ioctls"] == []


def test_other_controls_are_not_supported_and_are_counted(make_sim):
    sim = simulated(make_sim)
    with objects(sim) as rm:
        for number, target in ((0x12b, rm.handle), (0x800292, abi.device_handle(0)), (0x20801344, SUBDEVICE)):
            assert rm.control(target, number, bytes(64))[0] == NOT_SUPPORTED
        assert rm.control(SUBDEVICE, 0x20801344, bytes(64))[0] == NOT_SUPPORTED
    counted = {item["command"]: item["count"] for item in sim.status()["unknown_ioctls"]}
    assert counted == {0x12b: 1, 0x800292: 1, 0x20801344: 2}


def test_differences_between_driver_branches_follow_the_version(make_sim):
    for version, knows_289, size in (("535.309.01", False, 4), ("550.163.01", True, 4), ("555.58.02", True, 8)):
        sim = simulated(make_sim, version)
        with objects(sim) as rm:
            status, _ = rm.control(rm.handle, 0x289, struct.pack("I", gpu_id(sim.addresses[0])))
            assert status == (NV_OK if knows_289 else NOT_SUPPORTED), version
            assert rm.control(abi.device_handle(0), 0x800289, bytes(size))[0] == NV_OK, version
            assert rm.control(abi.device_handle(0), 0x800289, bytes(12 - size))[0] == INVALID_PARAM_STRUCT, version
        sim.stop()


# ---- lists ----


def test_an_index_list_may_have_any_whole_number_of_entries_up_to_its_limit(make_sim):
    sim = simulated(make_sim, gpu1="mig = enabled\n")
    with objects(sim) as rm:
        for length in (12, 436, 444, 516, 524):
            status, answer = rm.control(SUBDEVICE, 0x20801303, index_list([0x08], length))
            assert (status, data_of(answer, 1)) == (NV_OK, [1234 * 1024])
        status, answer = rm.control(SUBDEVICE, 0x20801303, index_list([0x07, 0x16, 0x99], 444))
        assert (status, data_of(answer, 3)) == (NV_OK, [1234 * 1024, 1234 * 1024, 0])
        status, answer = rm.control(SUBDEVICE, 0x20800102, index_list([0x2a, 0x11, 0x99], 524))
        assert (status, data_of(answer, 3)) == (NV_OK, [2, 1, 0])
        for length in (0, 8, 440, 4 + 8 * 129):
            assert rm.control(SUBDEVICE, 0x20801303, bytes(length) or b"\0")[0] == INVALID_PARAM_STRUCT
        too_many = struct.pack("I", 2) + bytes(8)
        assert rm.control(SUBDEVICE, 0x20801303, too_many)[0] == INVALID_ARGUMENT
    with objects(sim, 1) as rm:
        assert data_of(rm.control(SUBDEVICE, 0x20800102, index_list([0x2a], 524))[1], 1) == [1]


def test_an_id_that_no_gpu_has_is_refused(make_sim):
    sim = simulated(make_sim)
    known, stranger = gpu_id(sim.addresses[0]), 0xabcd00
    with opened(sim, "nvidiactl") as ctl:
        rm = abi.Client(ctl)
        assert rm.control(rm.handle, 0x215, ids(known, stranger) + bytes(4))[0] == INVALID_ARGUMENT
        assert rm.control(rm.handle, 0x215, ids(0xffff) + bytes(4))[0] == NV_OK, "0xffff means all probed GPUs"
        for number, parameters in ((0x216, ids(stranger)), (0x21b, struct.pack("IIHH", stranger, 0, 0, 0)),
                                   (0x279, struct.pack("III", stranger, 0, 0)), (0x289, struct.pack("I", stranger)),
                                   (0x278, struct.pack("III", stranger, 1, 0)),
                                   (0x202, struct.pack("I", known) + bytes(36))):  # not initialised
            assert rm.control(rm.handle, number, parameters)[0] == INVALID_ARGUMENT, f"{number:#x}"


def test_excluded_gpus_are_listed_separately(make_sim):
    sim = make_sim(scenario(2, gpu1="excluded = yes\n"))
    first, second = (gpu_id(address) for address in sim.addresses[:2])
    with opened(sim, "nvidiactl") as ctl:
        rm = abi.Client(ctl)
        assert rm.control(rm.handle, 0x214, bytes(256)) == (NV_OK, ids(first) + ids(second))


# ---- single controls ----


def test_the_build_version_is_written_to_three_addresses_of_the_caller(make_sim):
    sim = simulated(make_sim)
    with opened(sim, "nvidiactl") as ctl:
        rm = abi.Client(ctl)
        blocks = [pointed(b"\xee" * 32) for _ in range(3)]
        question = struct.pack("I4xQQQII", 32, *(address for _, address in blocks), 9, 9)
        status, answer = rm.control(rm.handle, 0x101, question)
        assert status == NV_OK and struct.unpack_from("II", answer, 32) == (0, 0)
        assert [block.raw.split(b"\0")[0] for block, _ in blocks] == [b"550.163.01", b"simulated", b"holdfast-sim"]
        too_small = struct.pack("I4xQQQII", 4, *(address for _, address in blocks), 0, 0)
        assert rm.control(rm.handle, 0x101, too_small)[0] == INVALID_ARGUMENT


def test_the_video_bios_is_written_to_a_list_of_the_caller_and_agrees_with_proc(make_sim):
    sim = simulated(make_sim)
    with objects(sim) as rm:
        block, address = pointed(struct.pack("IIIIII", 0, 9, 1, 9, 7, 9))
        assert rm.control(SUBDEVICE, 0x20800802, struct.pack("I4xQ", 3, address))[0] == NV_OK
        _, revision, _, oem, _, other = struct.unpack("IIIIII", block.raw)
        assert other == 0
        version = ".".join(f"{byte:02x}" for byte in struct.pack(">IB", revision, oem))
        assert f"Video BIOS: \t {version}\n" in (
            sim.root / f"proc/driver/nvidia/gpus/{sim.addresses[0]}/information").read_text()
        assert rm.control(SUBDEVICE, 0x20800802, struct.pack("I4xQ", 16, address))[0] == INVALID_ARGUMENT
        assert rm.control(SUBDEVICE, 0x20800802, struct.pack("I4xQ", 1, 0))[0] == INVALID_ADDRESS
        assert rm.control(SUBDEVICE, 0x20800802, bytes(12))[0] == INVALID_PARAM_STRUCT


def test_a_thermal_program_reads_the_temperature_of_one_sensor(make_sim):
    sim = simulated(make_sim)
    program = [(0x500, 0), (0x510, 0), (0x540, 0), (0x1500, 0), (0x1500, 1), (0x7777, 0)]
    question = struct.pack("IIIIII", 2, 0, 44, 1, 99, len(program))
    question += b"".join(struct.pack("IIIII24x", 99, 0, opcode, operand, 0) for opcode, operand in program)
    with objects(sim) as rm:
        status, answer = rm.control(SUBDEVICE, 0x20808513, question.ljust(1432, b"\0"))
    results = [struct.unpack_from("IIIII", answer, 24 + 44 * i) for i in range(len(program))]
    assert status == NV_OK and struct.unpack_from("I", answer, 16)[0] == 4
    assert [result[0] for result in results] == [NV_OK] * 4 + [NOT_SUPPORTED] * 2
    assert results[0][3] == 1 and results[3][4] == 56


def test_the_requested_number_of_clock_samples_is_returned_in_ascending_order(make_sim):
    with objects(simulated(make_sim)) as rm:
        status, answer = rm.control(SUBDEVICE, 0x20800406, struct.pack("BB262x", 0, 3))
        samples = struct.unpack_from("8Q", answer, 8)
        assert status == NV_OK and list(samples[:6]) == sorted(samples[:6]) and samples[0] > 0 and samples[6:] == (0, 0)
        assert rm.control(SUBDEVICE, 0x20800406, struct.pack("BB262x", 0, 17))[0] == INVALID_ARGUMENT


def test_a_gpu_is_in_use_if_it_has_a_device_object_not_if_its_node_is_open(make_sim):
    sim = simulated(make_sim)
    question = struct.pack("I", gpu_id(sim.addresses[0])) + bytes(36)
    with opened(sim, "nvidiactl") as ctl, opened(sim, "nvidia0"):
        rm = abi.Client(ctl)

        def is_in_use():
            status, answer = rm.control(rm.handle, 0x202, question)
            assert status == NV_OK
            return struct.unpack_from("I", answer, 4)[0] == 1

        assert not is_in_use()
        assert rm.device(0) == NV_OK and is_in_use()
        assert abi.rm_free(ctl, rm.handle, rm.handle, abi.device_handle(0)) == NV_OK and not is_in_use()
        with opened(sim, "nvidiactl") as other:
            assert abi.attach_gpus(other, gpu_id(sim.addresses[0])) == 0 and is_in_use()
        wait_until(lambda: not is_in_use(), "the file that attached the GPU is closed")


def test_freeing_a_device_also_frees_its_subdevice(make_sim):
    sim = simulated(make_sim)
    with objects(sim) as rm:
        assert rm.alloc(abi.device_handle(0), 0xd1, SUBDEVICE_CLASS, struct.pack("I", 1)) == INVALID_ARGUMENT
        assert rm.alloc(SUBDEVICE, 0xd1, SUBDEVICE_CLASS, bytes(4)) != NV_OK, "the parent of a subdevice must be a device"
        assert abi.rm_free(rm.fd, rm.handle, rm.handle, abi.device_handle(0)) == NV_OK
        assert rm.control(SUBDEVICE, 0x20800131, bytes(4))[0] == OBJECT_NOT_FOUND


def test_the_compute_mode_is_what_was_set(make_sim):
    sim = simulated(make_sim)
    with objects(sim) as rm:
        sim.ctl("set", gpu=0, compute_mode="Exclusive_Process")
        assert rm.control(SUBDEVICE, 0x20800131, bytes(4)) == (NV_OK, struct.pack("I", 3))


def test_a_lost_gpu_answers_that_it_is_lost(make_sim):
    sim = simulated(make_sim)
    with objects(sim) as rm:
        sim.ctl("lose", gpu=0)
        assert rm.control(SUBDEVICE, 0x20800131, bytes(4))[0] == GPU_IS_LOST


def test_only_root_can_begin_and_end_a_drain(make_sim):
    sim = simulated(make_sim)
    with opened(sim, "nvidiactl") as ctl:
        rm = abi.Client(ctl)
        os.seteuid(65534)
        try:
            assert rm.set_drain(sim.addresses[1], True) == INSUFFICIENT_PERMISSIONS
        finally:
            os.seteuid(0)
        assert rm.set_drain(sim.addresses[1], True) == NV_OK and sim.status()["gpus"][1]["drain"]
        assert rm.set_drain(sim.addresses[1], False) == NV_OK and not sim.status()["gpus"][1]["drain"]


def test_a_drain_with_removal_removes_a_gpu_that_is_not_initialised(make_sim):
    sim = simulated(make_sim)
    with opened(sim, "nvidiactl") as ctl, opened(sim, "nvidia0"):
        rm = abi.Client(ctl)
        assert rm.set_drain(sim.addresses[1], True, flags=2) == INVALID_ARGUMENT
        assert rm.set_drain(sim.addresses[1], True, flags=3) == NV_OK
        assert rm.set_drain(sim.addresses[0], True, flags=1) == NV_OK
    first, second = sim.status()["gpus"][:2]
    assert first["present"] and first["drain"] and not second["present"]
    assert not (sim.root / "sys/bus/pci/devices" / sim.addresses[1]).exists()
