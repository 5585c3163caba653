# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A node made of plain files and a scripted daemon, for tests of the operator's command.

Without a driver and a real daemon, a test can set up any state and any answer, right or wrong, at once.
"""

import shutil
import socket
import struct
import tempfile
import threading
from pathlib import Path

from .rpc import PROGRAM, opaque, words

HOLDFAST_PROGRAM = 0x20484644
RELEASED, OPENING, HELD, CLOSING, FAILED = range(5)
NO, YES, UNKNOWN = range(3)

THREE = ("0000:17:00.0", "0000:3a:00.0", "0000:ca:00.0")  # the GPUs of the fixture `three`

INFORMATION = """Model: \t\t {model}
IRQ:   \t\t 311
GPU UUID: \t {uuid}
Video BIOS: \t {bios}
Bus Location: \t {address}
Device Minor: \t {minor}
GPU Firmware: \t 595.45.04
GPU Excluded:\t {excluded}
"""


class Node:
    """A folder for --root, with files as in /proc, /dev, /sys and /run."""

    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="holdfast-node-"))
        self.root.chmod(0o755)
        self.socket_path = self.root / "run/nvidia-persistenced/socket"
        self.daemon = None

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def load_driver(self, version="595.45.04"):
        self.write("proc/driver/nvidia/version",
                   f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (root@host)\n")

    def add_gpu(self, address, minor, *, uuid=None, model="NVIDIA H100 80GB HBM3", bios="96.00.9f.00.01",
                excluded=False, initialised=False):
        gpu = f"proc/driver/nvidia/gpus/{address}"
        self.write(f"{gpu}/information",
                   INFORMATION.format(address=address, minor=minor, model=model, bios=bios,
                                      uuid=uuid or f"GPU-{minor:08x}-0000-0000-0000-000000000000",
                                      excluded="Yes" if excluded else "No"))
        self.write(f"{gpu}/power", f"Runtime D3 status:          {'Disabled by default' if initialised else '?'}\n")
        self.write(f"dev/nvidia{minor}", "")
        if initialised:
            self.write(f"sys/bus/pci/devices/{address}/msi_irqs/42", "")

    def tear_down(self, address):
        """Leaves the files as the driver does after a GPU's last close: the folder of its interrupts stays, but is empty."""
        for interrupt in (self.root / f"sys/bus/pci/devices/{address}/msi_irqs").iterdir():
            interrupt.unlink()
        self.write(f"proc/driver/nvidia/gpus/{address}/power", "Runtime D3 status:          ?\n")

    def start_daemon(self, **how):
        self.socket_path.parent.mkdir(parents=True, exist_ok=True)
        self.daemon = ScriptedDaemon(self.socket_path, **how)
        return self.daemon

    def clean_up(self):
        if self.daemon:
            self.daemon.stop()
        shutil.rmtree(self.root)


def hyper(value):
    return struct.pack(">Q", value)


class Row:
    """A GPU as List reports it."""

    def __init__(self, address, state=HELD, **fields):
        self.address = address
        self.fields = {
            "minor": 0, "uuid": "", "model": "", "state": state, "wanted": 1, "since": 1_800_000_000_123_456,
            "open_duration": 1_473_000, "opens": 1, "failures": 0, "stuck": 0, "errno": 0, "nv_status": 0,
            "error": "", "uvm": 0, "uvm_text": "", "legacy": NO, "leased": 0,
            "configured": 1,  # reported by Configured
        }
        unknown = set(fields) - set(self.fields)
        assert not unknown, f"List has no {unknown}"
        self.fields |= fields

    def _encode_address(self):
        domain, bus, slot_function = self.address.split(":")
        slot, function = slot_function.split(".")
        return words(int(domain, 16), int(bus, 16), int(slot, 16), int(function, 16))

    def encode_configured(self):
        return self._encode_address() + words(self.fields["configured"], self.fields["uvm"] > 0)

    def encode(self):
        f = self.fields
        return (self._encode_address() + words(f["minor"]) +
                opaque(f["uuid"].encode()) + opaque(f["model"].encode()) + words(f["state"], f["wanted"]) +
                hyper(f["since"]) + hyper(f["open_duration"]) +
                words(f["opens"], f["failures"], f["stuck"], f["errno"], f["nv_status"]) +
                opaque(f["error"].encode()) + words(f["uvm"]) + opaque(f["uvm_text"].encode()) +
                words(f["legacy"], f["leased"]))


class ScriptedDaemon:
    """A daemon that answers from a table, on a thread.

    rows: the GPUs that List reports. Without rows it serves only NVIDIA's RPC program, as NVIDIA's daemon does.
    """

    def __init__(self, path, *, rows=None, modes=None, set_status=0, ready=True, silent=False, after_list=None,
                 stats=None, silent_to=(), lacks=()):
        self.rows = rows
        self.modes = modes or {}  # address without function, as in "0000:17:00" -> (status, mode)
        self.set_status = set_status
        self.ready = ready
        self.silent = silent  # reads calls and answers none
        self.silent_to = silent_to  # procedures of Holdfast's program that it does not answer
        self.lacks = lacks  # procedures that it reports as unavailable
        self.after_list = after_list  # called after each List, to change the rows and the serial
        self.serial = 1  # of the list
        self.stats = stats or {}  # the counters of Stats; those not named are 0
        self.sets = []
        self.lists = 0
        self.watches = 0
        self._told = None  # the last answer to List
        self._stopping = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o777)
        self._listener.listen(16)
        self.connections = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self):
        self._stopping.set()
        # shutdown(), unlike close(), wakes the thread that sleeps in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5)
        assert not self._thread.is_alive(), "the scripted daemon does not end"
        self._listener.close()
        for connection in self.connections:
            connection.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection.makefile("rb") as stream:
            while header := stream.read(4):
                size = struct.unpack(">I", header)[0] & 0x7FFFFFFF
                call = stream.read(size)
                if self.silent:
                    continue
                reply = self._answer(call)
                if reply is None:
                    continue
                connection.sendall(words(0x80000000 | len(reply)) + reply)

    def _answer(self, call):
        xid, _, _, program, version, procedure, *_ = struct.unpack(">10I", call[:40])
        accepted = words(xid, 1, 0, 0, 0)
        if program == HOLDFAST_PROGRAM and procedure in self.silent_to:
            return None
        if program == HOLDFAST_PROGRAM and self.rows is not None:
            if procedure in self.lacks:
                return accepted + words(3)
            results = {2: self._watch, 3: self._stats, 5: self._configured}.get(procedure, self._list)()
            return results and accepted + words(0) + results
        if program != PROGRAM:
            return accepted + words(1)
        return accepted + words(0) + self._call_nvpd(procedure, struct.unpack(f">{len(call) // 4 - 10}i", call[40:]))

    def _stats(self):
        count = self.stats.get
        return (hyper(1_799_999_999_000_000) + words(*(count(name, 0) for name in ("sessions", "sessions_max", "leases"))) +
                b"".join(hyper(count(name, 0)) for name in ("accepted", "evicted", "expired", "malformed", "calls",
                                                            "rejected", "refused")))

    def _configured(self):
        return words(len(self.rows)) + b"".join(row.encode_configured() for row in self.rows)

    def _watch(self):
        """Answers once the list differs from the last one sent. Until then there is no answer."""
        self.watches += 1
        while self._encode_list() == self._told:
            if self._stopping.wait(0.01):
                return None
        return self._encode_list()

    def _list(self):
        self.lists += 1
        answer = self._told = self._encode_list()
        if self.after_list:
            self.after_list(self)
        return answer

    def _encode_list(self):
        return (opaque(b"9.8.7") + opaque(b"kernel") + words(4711) + hyper(1_799_999_999_000_000) +
                words(self.ready) + hyper(self.serial) + words(len(self.rows)) + b"".join(row.encode() for row in self.rows))

    def _call_nvpd(self, procedure, arguments):
        address = "{:04x}:{:02x}:{:02x}".format(*arguments[:3])
        if procedure == 2:
            status, mode = self.modes.get(address, (2, 0))
            return words(status, mode) if status == 0 else words(status)
        self.sets.append((address, arguments[4]))
        return words(self.set_status)
