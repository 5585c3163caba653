# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The driver's ioctls (src/gpu/abi.h) as functions of a descriptor. They work with the simulated and the real driver."""

import ctypes
import fcntl
import struct

CONTROL_NODE, UVM_NODE = "nvidiactl", "nvidia-uvm"

RM_FREE, RM_CONTROL, RM_ALLOC = 0x29, 0x2a, 0x2b
CARD_INFO, ALLOC_OS_EVENT, STATUS_CODE, CHECK_VERSION, XFER, ATTACH_GPUS = 200, 206, 209, 210, 211, 212
SYS_PARAMS, NUMA_INFO, SET_NUMA_STATUS, WAIT_OPEN = 214, 215, 216, 218
UVM_INITIALIZE, UVM_REGISTER, UVM_UNREGISTER = 0x30000001, 37, 38

NV_OK = 0x00
GPU_IS_LOST = 0x0f
GPU_UUID_NOT_FOUND = 0x12
ILLEGAL_ACTION = 0x16
INSUFFICIENT_PERMISSIONS = 0x1b
INSUFFICIENT_POWER = 0x1c
INVALID_ADDRESS = 0x1e
INVALID_ARGUMENT = 0x1f
INVALID_CLIENT = 0x23
INVALID_DEVICE = 0x26
INVALID_PARAM_STRUCT = 0x3a
INVALID_STATE = 0x40
NOT_SUPPORTED = 0x56
OBJECT_NOT_FOUND = 0x57
FABRIC_NOT_READY = 0x81

ROOT_CLIENT, OS_EVENT, DEVICE = 0x41, 0x79, 0x80
GET_SYSTEM_EVENT_DATA, SET_NOTIFICATION, GET_ID_INFO = 0x502, 0x501, 0x205
QUERY_DRAIN_STATE, MODIFY_DRAIN_STATE = 0x279, 0x278


def command(number, size):
    """The request code of the driver's ioctl `number` with an argument of `size` bytes."""
    return 3 << 30 | size << 16 | ord("F") << 8 | number


def ioctl(fd, number, data):
    """Returns the argument as the driver changed it. Raises OSError."""
    buffer = bytearray(data)
    fcntl.ioctl(fd, command(number, len(data)), buffer)
    return bytes(buffer)


def ioctl_errno(fd, number, data):
    """Returns 0, or the errno of the call."""
    try:
        ioctl(fd, number, data)
    except OSError as error:
        return error.errno
    return 0


def pointed(data):
    """Returns a block of memory that contains the data, and its address."""
    block = ctypes.create_string_buffer(bytes(data), len(data))
    return block, ctypes.addressof(block)


def gpu_id(address):
    """The driver's id of a GPU: 0001:17:02.0 is 0x11702."""
    domain, bus, slot = address.split(".")[0].split(":")
    return int(domain, 16) << 16 | int(bus, 16) << 8 | int(slot, 16)


# ---- nvidiactl and GPUs ----


def card_info(fd, room=32):
    """{address: minor} of the GPUs that the driver lists."""
    data = ioctl(fd, CARD_INFO, bytes(72 * room))
    found = {}
    for offset in range(0, len(data), 72):
        valid, domain, bus, slot = struct.unpack_from("B3xIBB", data, offset)
        if valid:
            found[f"{domain:04x}:{bus:02x}:{slot:02x}.0"] = struct.unpack_from("I", data, offset + 56)[0]
    return found


def status_code(fd, address):
    """NV_STATUS of a GPU's last initialisation."""
    domain, bus, slot = (int(part, 16) for part in address.split(".")[0].split(":"))
    return struct.unpack("IBB2xI", ioctl(fd, STATUS_CODE, struct.pack("IBB2xI", domain, bus, slot, 99)))[3]


def check_version(fd, version, how=ord("2")):
    """(recognised, the driver's own version)."""
    answer = ioctl(fd, CHECK_VERSION, struct.pack("II64s", how, 0, version.encode()))
    return struct.unpack_from("I", answer, 4)[0] == 1, answer[8:].split(b"\0")[0].decode()


def attach_gpus(fd, *ids):
    """Returns 0, or the errno."""
    return ioctl_errno(fd, ATTACH_GPUS, struct.pack(f"{len(ids)}I", *ids))


def sys_params(fd, size):
    return ioctl_errno(fd, SYS_PARAMS, struct.pack("Q", size))


def numa_info(fd):
    """Returns 0, or the errno."""
    return ioctl_errno(fd, NUMA_INFO, bytes(560))


def set_numa_status(fd, status):
    return ioctl_errno(fd, SET_NUMA_STATUS, struct.pack("i", status))


def wait_open(fd):
    """Returns (0 or the negative errno of the open, NV_STATUS of the initialisation)."""
    return struct.unpack("iI", ioctl(fd, WAIT_OPEN, b"\xff" * 8))


# ---- UVM: its ioctl numbers encode no size, and the argument is an address ----


def uvm(fd, number, data):
    block, address = pointed(data)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
    if libc.ioctl(fd, number, address) < 0:
        raise OSError(ctypes.get_errno(), "ioctl")
    return block.raw


def uvm_initialize(fd):
    return struct.unpack("QII", uvm(fd, UVM_INITIALIZE, struct.pack("QII", 2, 99, 0)))[1]


def uvm_register(fd, uuid):
    answer = uvm(fd, UVM_REGISTER, uuid + struct.pack("=B3xiiIII", 0, 0, -1, 0, 0, 99))
    return struct.unpack_from("I", answer, 36)[0]


def uvm_unregister(fd, uuid):
    return struct.unpack_from("I", uvm(fd, UVM_UNREGISTER, uuid + struct.pack("I", 99)), 16)[0]


# ---- the resource manager ----


def rm_alloc(fd, root, parent, handle, rm_class, parameters=b""):
    """Returns (NV_STATUS, handle). Raises OSError."""
    block, address = pointed(parameters) if parameters else (None, 0)
    answer = ioctl(fd, RM_ALLOC, struct.pack("IIIIQII", root, parent, handle, rm_class, address, len(parameters), 99))
    fields = struct.unpack("IIIIQII", answer)
    del block
    return fields[6], fields[2]


def rm_free(fd, root, parent, handle):
    """Returns an NV_STATUS."""
    return struct.unpack("IIII", ioctl(fd, RM_FREE, struct.pack("IIII", root, parent, handle, 99)))[3]


def device_handle(instance):
    return 0xde000 + instance


class Client:
    """A root client of the resource manager, on a descriptor of nvidiactl. Most methods return an NV_STATUS."""

    def __init__(self, fd):
        self.fd = fd
        status, self.handle = rm_alloc(fd, 0, 0, 0, ROOT_CLIENT)
        assert status == NV_OK and self.handle != 0

    def alloc(self, parent, handle, rm_class, parameters=b""):
        return rm_alloc(self.fd, self.handle, parent, handle, rm_class, parameters)[0]

    def control(self, handle, number, parameters, client=None):
        """Returns (NV_STATUS, the parameters after the call). client: the handle to claim instead of this client's."""
        block, address = pointed(parameters)
        answer = ioctl(self.fd, RM_CONTROL, struct.pack("IIIIQII", client or self.handle, handle, number, 0, address,
                                                        len(parameters), 99))
        return struct.unpack("IIIIQII", answer)[6], block.raw

    def subscribe(self, event_fd):
        """Subscribes to notices of bind and unbind, which wake event_fd, another descriptor of nvidiactl.

        Returns the NV_STATUS of each of the three steps.
        """
        event = ioctl(event_fd, ALLOC_OS_EVENT, struct.pack("IIII", self.handle, 0, event_fd, 99))
        parameters = struct.pack("IIIIQ", self.handle, self.handle, OS_EVENT, 3, event_fd)
        return (struct.unpack("IIII", event)[3], self.alloc(self.handle, 0xca11, OS_EVENT, parameters),
                self.control(self.handle, SET_NOTIFICATION, struct.pack("II", 3, 2))[0])

    def device(self, instance):
        """Makes a device object whose handle is device_handle(instance)."""
        return self.alloc(self.handle, device_handle(instance), DEVICE, struct.pack("I", instance) + bytes(52))

    def set_drain(self, address, on, flags=0):
        """Makes the driver refuse new users of a GPU, or accept them again. flags: 1 removes the GPU, 2 disables its link."""
        return self.control(self.handle, MODIFY_DRAIN_STATE, struct.pack("III", gpu_id(address), int(on), flags))[0]
