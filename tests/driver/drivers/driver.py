# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A driver as tests see it: each test gets one with COUNT healthy, uninitialised GPUs and their Times."""

import contextlib
import dataclasses
import os

from harness import abi, events
from harness.background import Background, Opening

COUNT = 4
ADDRESSES = tuple(f"0001:17:{slot:02x}.0" for slot in range(COUNT))


@dataclasses.dataclass(frozen=True)
class Times:
    """Times of one GPU in milliseconds."""

    lock: int = 1       # initialisation, under the driver's lock
    init: int = 10      # initialisation, while the firmware boots
    teardown: int = 10


class Driver:
    """Subclasses have name, version (a text), root (a Path with dev, proc and sys), gpu() and these methods:

        fail(gpu, count, status)     the next initialisations fail; count -1: all
        hang(gpu, which, on)         which: "open" or "close"
        legacy(gpu, on)              the kernel's persistence flag
        lose(gpu)                    the GPU vanishes, and the driver notices
        unbind(gpu), bind(gpu)       return when the driver has done it
        remove(gpu), add(gpu)        the same, from the bus and back
        end_hangs(), restore()       used by clean_up()

    gpu(n) returns a dictionary: usage_count, initialisations, teardowns, initialised, initialising, adapter_status,
    legacy, bound, minor, uuid (16 bytes).
    """

    addresses = ADDRESSES

    def __init__(self):
        self._openings = []
        self._calls = []

    @property
    def numbers(self):
        """The version as a tuple, for comparisons."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def defers_opens(self):
        """Whether O_NONBLOCK defers an open, and the firmware boots outside the driver's lock. One version brought both."""
        return self.numbers >= (550, 40, 7)

    def gpus(self):
        return [self.gpu(index) for index in range(COUNT)]

    def drain(self, gpu, on=True):
        with self.opened(abi.CONTROL_NODE) as fd:
            status = abi.Client(fd).set_drain(ADDRESSES[gpu], on)
        assert status == abi.NV_OK, f"drain: {status:#x}"

    # ---- nodes

    def node(self, which):
        """Returns a node's path, by the number of a GPU or by name."""
        name = which if isinstance(which, str) else f"nvidia{self.gpu(which)['minor']}"
        return self.root / "dev" / name

    def open(self, which, flags=0):
        """Opens a node; the caller closes the descriptor. Raises OSError."""
        return os.open(self.node(which), os.O_RDWR | os.O_CLOEXEC | flags)

    @contextlib.contextmanager
    def opened(self, which, flags=0):
        fd = self.open(which, flags)
        try:
            yield fd
        except BaseException:
            self.end_hangs()  # otherwise the close below would hang, too
            raise
        finally:
            with contextlib.suppress(OSError):  # the test may have closed it
                os.close(fd)

    def open_errno(self, which, flags=0):
        """Opens and closes a node; returns 0 or the errno of the open."""
        try:
            os.close(self.open(which, flags))
        except OSError as error:
            return error.errno
        return 0

    # ---- calls that may block

    def open_later(self, which, flags=0):
        """Begins an open on a thread; returns its Opening."""
        self._openings.append(Opening(self.open, which, flags))
        return self._openings[-1]

    def later(self, call, *arguments):
        """Begins any other call on a thread."""
        self._calls.append(Background(call, *arguments))
        return self._calls[-1]

    def clean_up(self):
        """Ends all hangs, waits for all calls and closes all descriptors of the test."""
        self.end_hangs()
        for opening in self._openings:
            with contextlib.suppress(OSError):
                opening.close()
        for call in self._calls:
            assert call.ended(20), "a call of this test still blocks although nothing hangs"
        self.restore()

    # ---- waiting

    def wait(self, gpu, timeout=20, **expected):
        """Waits until the GPU has these values."""
        events.wait_until(lambda: expected.items() <= self.gpu(gpu).items(), f"GPU {gpu} is {expected}", timeout)

    def read_proc(self, gpu, name):
        return (self.root / "proc/driver/nvidia/gpus" / ADDRESSES[gpu] / name).read_text()

    def interrupts(self, gpu):
        """Returns the files in the GPU's interrupts folder, or None if there is no folder."""
        folder = self.root / "sys/bus/pci/devices" / ADDRESSES[gpu] / "msi_irqs"
        return sorted(os.listdir(folder)) if folder.exists() else None
