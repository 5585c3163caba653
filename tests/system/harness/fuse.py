# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A file system with one file, whose server stops answering on request. Any user can mount such a file system."""

import contextlib
import ctypes
import os
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MS_NOSUID, MS_NODEV = 2, 4
MNT_FORCE, MNT_DETACH = 1, 2
FILE_SIZE = 4096
ROOT, FILE = 1, 2  # nodes
ENOENT, ENOSYS = 2, 38

# Opcodes (include/uapi/linux/fuse.h)
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, OPENDIR, BATCH_FORGET = 1, 2, 3, 14, 15, 18, 25, 26, 27, 42

libc = ctypes.CDLL(None, use_errno=True)


def attributes(node):
    mode = 0o040755 if node == ROOT else 0o100666
    return struct.pack("<6Q10I", node, FILE_SIZE, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class HungFileSystem:
    """A file system mounted at .folder, with the file .path. After hang() it reads requests but answers none."""

    def __init__(self, name):
        self.name = name.encode()
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-hung-"))
        self.path = self.folder / name
        self.hung = threading.Event()
        self.asked = threading.Event()  # a request has come since hang()
        self.ended = False
        self.stop_read, self.stop_write = os.pipe()
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"holdfast-hung", bytes(self.folder), b"fuse", MS_NOSUID | MS_NODEV, options):
            raise OSError(ctypes.get_errno(), "mount of a FUSE file system")
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def hang(self):
        self.hung.set()

    def serve(self):
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.register(self.stop_read, select.POLLIN)
        while all(fd != self.stop_read for fd, _ in poll.poll()):
            try:
                self.answer(os.read(self.fd, 1 << 18))
            except (BlockingIOError, FileNotFoundError):  # the process that made the request has ended
                continue
            except OSError:  # unmounted
                return

    def answer(self, request):
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in (FORGET, BATCH_FORGET):
            return
        if self.hung.is_set():
            self.asked.set()
            return
        error, body = self.reply(opcode, node, request[40:])
        os.write(self.fd, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)

    def reply(self, opcode, node, arguments):
        if opcode == INIT:
            return 0, struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, 0, *[0] * 7)
        if opcode == LOOKUP and arguments.rstrip(b"\0") == self.name:
            return 0, struct.pack("<QQQQII", FILE, 0, 3600, 0, 0, 0) + attributes(FILE)
        if opcode == LOOKUP:
            return ENOENT, b""
        if opcode == GETATTR:
            return 0, struct.pack("<QII", 0, 0, 0) + attributes(node)
        if opcode in (OPEN, OPENDIR):
            return 0, struct.pack("<QII", 0, 0, 0)
        if opcode == READ:
            return 0, bytes(FILE_SIZE)
        return (0 if opcode in (RELEASE, FLUSH) else ENOSYS), b""

    def end(self):
        """Unmounts. Callers that wait for an answer get an error. A second call does nothing."""
        if self.ended:
            return
        self.ended = True
        libc.umount2(bytes(self.folder), MNT_FORCE)
        libc.umount2(bytes(self.folder), MNT_DETACH)
        os.write(self.stop_write, b"x")
        self.thread.join()
        for fd in (self.fd, self.stop_read, self.stop_write):
            os.close(fd)
        self.folder.rmdir()


OPEN_FILE = """
import os, sys
os.open(sys.argv[1], os.O_RDWR)
print("ready", flush=True)
sys.stdin.read()
"""

# execve() closes the close-on-exec descriptors and calls the file system for each. Until that returns, nobody can read which
# files the process has open.
EXECUTE = """
import os, sys
os.open(sys.argv[1], os.O_RDWR | os.O_CLOEXEC)
print("ready", flush=True)
sys.stdin.readline()
os.execvp("sleep", ["sleep", "60"])
"""

# One thread reads memory that is mapped from the file system's file, and holds the lock of the address space (mmap_lock)
# meanwhile. Another thread waits for that lock to write. Whoever wants to read the command line waits behind that thread.
LOCK_MEMORY = """
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
address = libc.mmap(None, 4096, 1, 1, os.open(sys.argv[1], os.O_RDWR), 0)
memory = os.open("/proc/self/mem", os.O_RDONLY)
print("ready", flush=True)
sys.stdin.readline()
threading.Thread(target=os.pread, args=(memory, 1, address)).start()
sys.stdin.readline()
libc.mmap(None, 4096, 3, 0x22, -1, 0)
"""


def wait_for_state(pid, state, limit_sec=10):
    deadline = time.monotonic() + limit_sec
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != state:
        assert time.monotonic() < deadline, f"process {pid} did not reach state {state} within {limit_sec} s"
        time.sleep(0.01)


@contextlib.contextmanager
def process_on(system, program, more=(), prefix=(), pass_fds=()):
    """Starts a process that runs the program with the file system's file, then makes the file system hang."""
    arguments = [*prefix, sys.executable, "-I", "-c", program, system.path, *more]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=pass_fds) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            system.hang()
            if program != OPEN_FILE:
                process.stdin.write(b"\n")
                process.stdin.flush()
                assert system.asked.wait(10)
            if program == LOCK_MEMORY:
                process.stdin.write(b"\n")
                process.stdin.flush()
                wait_for_state(process.pid, "D")
            yield process
        finally:
            process.kill()
            system.end()


@contextlib.contextmanager
def hung_file_system(name):
    system = HungFileSystem(name)
    try:
        yield system
    finally:
        system.end()
