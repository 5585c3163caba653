# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Calls NVML by ctypes: nvml.py LIBRARY CALLS ADDRESS... prints JSON. It calls only Get functions.

It runs as a separate process, because NVML keeps the driver's nodes open until its process ends. It imports none of our code.
"""

import ctypes
import json
import sys
import time

BUS_ID_SIZE = 32


class Nvml:
    def __init__(self, library):
        self.library = ctypes.CDLL(library)
        self.library.nvmlErrorString.restype = ctypes.c_char_p
        self.call("nvmlInit_v2")

    def call(self, function, *arguments):
        result = getattr(self.library, function)(*arguments)
        if result:
            sys.exit(f"{function}: {self.library.nvmlErrorString(result).decode()} ({result})")

    def device(self, address):
        device = ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByPciBusId_v2", ctypes.create_string_buffer(address.encode(), BUS_ID_SIZE),
                  ctypes.byref(device))
        return device

    def persistence(self, device):
        mode = ctypes.c_uint(99)
        self.call("nvmlDeviceGetPersistenceMode", device, ctypes.byref(mode))
        return mode.value

    def timed_nsec(self, device):
        begin = time.perf_counter_ns()
        self.persistence(device)
        return time.perf_counter_ns() - begin


def main(library, calls, *addresses):
    nvml = Nvml(library)
    devices = {address: nvml.device(address) for address in addresses}
    modes = {address: nvml.persistence(device) for address, device in devices.items()}
    times = sorted(nvml.timed_nsec(devices[addresses[0]]) for _ in range(int(calls)))
    print(json.dumps({"modes": modes, "nsec": times}))
    nvml.call("nvmlShutdown")


if __name__ == "__main__":
    main(*sys.argv[1:])
