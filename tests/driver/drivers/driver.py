# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A driver as tests see it. Each test gets one with COUNT healthy, cold GPUs, whose times are Times."""

import contextlib
import dataclasses
import os

from harness import abi, events
from harness.background import Background, Opening

COUNT = 4
ADDRESSES = tuple(f"0001:17:{slot:02x}.0" for slot in range(COUNT))


@dataclasses.dataclass(frozen=True)
class Times:
    """Of one GPU, in milliseconds."""

    lock: int = 1       # initialisation, under the driver's lock
    init: int = 10      # initialisation, while the firmware boots
    teardown: int = 10


class Driver:
    """Whoever inherits has name, version (a text), root (a Path: dev, proc and sys are in there), gpu() and the verbs:

        fail(gpu, count, status)     the next initialisations fail; count -1: all
        hang(gpu, which, on)         which: "open" or "close"
        legacy(gpu, on)              the kernel's persistence flag
        lose(gpu)                    vanishes, and the driver knows it
        unbind(gpu), bind(gpu)       return when it is done
        remove(gpu), add(gpu)        the same, and off the bus, on the bus
        end_hangs(), restore()       what clean_up() needs besides

    gpu(n) tells, as a dictionary: usage_count, initialisations, teardowns, initialised, initialising, adapter_status,
    legacy, bound, minor, uuid (16 bytes).
    """

    addresses = ADDRESSES

    def __init__(self):
        self._openings = []
        self._calls = []

    @property
    def numbers(self):
        """The version as a tuple, to compare with."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def defers_opens(self):
        """O_NONBLOCK has a meaning, and the firmware boots outside the driver's lock: both came together."""
        return self.numbers >= (550, 40, 7)

    def gpus(self):
        return [self.gpu(index) for index in range(COUNT)]

    def drain(self, gpu, on=True):
        with self.opened(abi.CONTROL_NODE) as fd:
            status = abi.Client(fd).set_drain(ADDRESSES[gpu], on)
        assert status == abi.NV_OK, f"drain: {status:#x}"

    # ---- nodes

    def node(self, which):
        """Of a GPU by number, or by name."""
        name = which if isinstance(which, str) else f"nvidia{self.gpu(which)['minor']}"
        return self.root / "dev" / name

    def open(self, which, flags=0):
        """A descriptor of the caller's. Raises OSError."""
        return os.open(self.node(which), os.O_RDWR | os.O_CLOEXEC | flags)

    @contextlib.contextmanager
    def opened(self, which, flags=0):
        fd = self.open(which, flags)
        try:
            yield fd
        except BaseException:
            self.end_hangs()  # or the close below would not end either
            raise
        finally:
            with contextlib.suppress(OSError):  # a test may have closed it
                os.close(fd)

    def open_errno(self, which, flags=0):
        """0, or the errno of an open, which is closed again."""
        try:
            os.close(self.open(which, flags))
        except OSError as error:
            return error.errno
        return 0

    # ---- calls that may take long

    def open_later(self, which, flags=0):
        """The Opening of a descriptor, begun."""
        self._openings.append(Opening(self.open, which, flags))
        return self._openings[-1]

    def later(self, call, *arguments):
        """Any other call, begun."""
        self._calls.append(Background(call, *arguments))
        return self._calls[-1]

    def clean_up(self):
        """Whatever the test did or left undone: nothing hangs, nothing is open, all calls are over."""
        self.end_hangs()
        for opening in self._openings:
            with contextlib.suppress(OSError):
                opening.close()
        for call in self._calls:
            assert call.ended(20), "a call of this test is not over though nothing hangs any more"
        self.restore()

    # ---- waiting

    def wait(self, gpu, timeout=20, **expected):
        """Until the GPU is as expected."""
        events.wait_until(lambda: expected.items() <= self.gpu(gpu).items(), f"GPU {gpu} is {expected}", timeout)

    def read_proc(self, gpu, name):
        return (self.root / "proc/driver/nvidia/gpus" / ADDRESSES[gpu] / name).read_text()

    def interrupts(self, gpu):
        """The files in the GPU's folder of interrupts; None: there is no folder."""
        folder = self.root / "sys/bus/pci/devices" / ADDRESSES[gpu] / "msi_irqs"
        return sorted(os.listdir(folder)) if folder.exists() else None
