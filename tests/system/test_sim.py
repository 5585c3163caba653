# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The simulated driver's interfaces: the file system, the driver's ioctls, the socket, the library and the command."""

import ctypes
import errno
import json
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from harness import abi, process
from harness.abi import (CARD_INFO, CHECK_VERSION, FABRIC_NOT_READY, ILLEGAL_ACTION, INSUFFICIENT_PERMISSIONS, INVALID_ARGUMENT,
                         INVALID_CLIENT, INVALID_DEVICE, INVALID_STATE, NOT_SUPPORTED, NUMA_INFO, NV_OK, OBJECT_NOT_FOUND,
                         RM_ALLOC, RM_CONTROL, STATUS_CODE, SYS_PARAMS, UVM_INITIALIZE, WAIT_OPEN, XFER, ioctl, ioctl_errno,
                         pointed, rm_alloc, uvm, uvm_initialize, uvm_register, uvm_unregister)
from harness.background import Background
from harness.events import wait_until
from harness.simulator import Simulator, opened, scenario


class Holder:
    """A process that runs the lines of Python code that the test sends. The test may kill it."""

    CODE = "import sys\nfor line in sys.stdin:\n exec(line)\n print('done', flush=True)"

    def __init__(self, *, pass_fds=(), environment=None):
        self.process = subprocess.Popen([sys.executable, "-c", self.CODE], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, pass_fds=pass_fds,
                                        env=os.environ | (environment or {}))
        self.pid = self.process.pid

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n", f"the holder ended at: {line}"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()


def wait_event(sim, event, address=None):
    """Waits until the journal has the event (of this GPU, if given). Returns the record."""
    since = 0
    while True:
        with sim._connect(30) as connection:
            answer = sim._ask(connection, "journal", since=since, event=event, timeout="10s")
        assert answer["records"], f"no {event} within 10 s; the journal: {sim.journal()}"
        for record in answer["records"]:
            if address in (None, record["gpu"]):
                return record
        since = answer["records"][-1]["seq"]


def wait_gpu(sim, index, **expected):
    """Waits until the GPU has the expected values. Checks again after each record of the journal."""
    while True:
        status = sim.status()
        gpu = status["gpus"][index]
        if expected.items() <= gpu.items():
            return gpu
        with sim._connect(30) as connection:
            answer = sim._ask(connection, "journal", since=status["journal_last"], timeout="10s")
        assert answer["records"], f"GPU {index} did not become {expected} within 10 s: {gpu}"


def events(sim, *names):
    return [record["event"] for record in sim.journal(*names)]


def uuid_bytes(sim, index):
    return bytes.fromhex(sim.status()["gpus"][index]["uuid"].removeprefix("GPU-").replace("-", ""))


class Rm(abi.Client):
    """A client of the resource manager that receives notices of bind and unbind."""

    def subscribe(self, event_fd):
        assert super().subscribe(event_fd) == (NV_OK, NV_OK, NV_OK)

    def next_notice(self):
        """Returns (GPU id, bound), or None if the queue is empty."""
        status, data = self.control(self.handle, abi.GET_SYSTEM_EVENT_DATA, bytes(12))
        if status == OBJECT_NOT_FOUND:
            return None
        assert status == NV_OK
        event, gpu_id, bound = struct.unpack("IIB3x", data)
        assert event == 3
        return gpu_id, bool(bound)


# ---- the file tree ----


def test_the_files_in_proc_and_sys_have_the_drivers_format(sim):
    gpu = sim.status()["gpus"][1]
    information = (sim.root / f"proc/driver/nvidia/gpus/{gpu['address']}/information").read_text()
    assert information.startswith("Model: \t\t Simulated H100 80GB\nIRQ:   \t\t ")
    assert "UUID" not in information, "the driver reads the UUID from the GPU, so it cannot know it yet"
    assert "\nVideo BIOS: \t ??.??.??.??.??\n" in information
    assert "\nDevice Minor: \t 1\n" in information
    assert information.endswith("\nGPU Firmware: \t N/A\nGPU Excluded:\t No\n")
    assert "  595.45.04  Release Build" in (sim.root / "proc/driver/nvidia/version").read_text()
    assert "\nDeviceFileMode: 438\n" in (sim.root / "proc/driver/nvidia/params").read_text()
    assert "\n195 nvidia\n" in (sim.root / "proc/devices").read_text()
    assert (sim.root / "sys/module/nvidia/version").read_text() == "595.45.04\n"
    device = sim.root / "sys/bus/pci/devices" / gpu["address"]
    assert (device / "vendor").read_text() == "0x10de\n"
    assert (device / "driver").resolve() == sim.root / "sys/bus/pci/drivers/nvidia"
    assert (sim.root / "sys/bus/pci/drivers/nvidia" / gpu["address"]).resolve() == device.resolve()
    bridge = device.resolve().parent
    assert (sim.root / "sys/bus/pci/devices" / bridge.name).resolve() == bridge
    assert (bridge / "class").read_text() == "0x060400\n"


VERSIONS = ("535.261.03", "550.163.01", "575.64.05", "590.48.01", "595.45.04")


def driver(version, *arguments, **how):
    return f"[driver]\nversion = {version}\n" + scenario(*arguments, **how)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_uuid_is_unknown_until_the_gpu_is_initialised(make_sim, version):
    sim = make_sim(driver(version, 1))
    information = sim.root / f"proc/driver/nvidia/gpus/{sim.addresses[0]}/information"
    unknown = "GPU UUID: \t GPU-????????-????-????-????-????????????\n"
    assert (unknown in information.read_text()) == (version < "590")
    assert ("UUID" in information.read_text()) == (version < "590")
    with opened(sim, "nvidia0"):
        pass
    assert f"GPU UUID: \t {sim.status()['gpus'][0]['uuid']}\n" in information.read_text(), "the UUID is not cached"
    sim.ctl("unbind", gpu=0)
    sim.ctl("bind", gpu=0)
    assert sim.status()["gpus"][0]["uuid"] not in information.read_text()


@pytest.mark.parametrize("version, some, none", (
    ("535.261.03", ["TCEBypassMode: 0", "PreserveVideoMemoryAllocations: 0", "OpenRmEnableUnsupportedGpus: 0"],
     ["ImexChannelCount", "RmNvlinkBandwidthLinkCount", "CoherentGPUMemoryMode", "TegraGpuPgMask"]),
    ("550.163.01", ["TCEBypassMode: 0", "ImexChannelCount: 2048", "OpenRmEnableUnsupportedGpus: 1"],
     ["CreateImexChannel0", "RmNvlinkBandwidthLinkCount"]),
    ("575.64.05", ["RmNvlinkBandwidthLinkCount: 0", "GrdmaPciTopoCheckOverride: 0"], ["TCEBypassMode", "TegraGpuPgMask"]),
    ("590.48.01", ["TegraGpuPgMask: 4294967295", "EnableSystemMemoryPools: 529", 'CoherentGPUMemoryMode: ""'],
     ["UseKernelSuspendNotifiers"]),
    ("595.45.04", ["UseKernelSuspendNotifiers: 0", "PreserveVideoMemoryAllocations: 2", "EnableGpuFirmwareLogs: 2"],
     ["TCEBypassMode"]),
))
def test_each_driver_version_has_its_parameters(make_sim, version, some, none):
    lines = (make_sim(driver(version, 1)).root / "proc/driver/nvidia/params").read_text().splitlines()
    names = [line.partition(":")[0] for line in lines]
    assert set(some) <= set(lines) and not set(none) & set(names)
    assert len(names) == len(set(names))


def test_device_nodes_are_regular_files_that_everybody_may_open(sim):
    names = sorted(os.listdir(sim.root / "dev"))
    assert names == ["kmsg", "nvidia-uvm", "nvidia0", "nvidia1", "nvidiactl"]
    names.remove("kmsg")
    for name in names:
        status = (sim.root / "dev" / name).stat()
        assert stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o666 and status.st_uid == 0


def test_sysfs_and_the_power_file_show_whether_a_gpu_is_initialised(sim):
    """After the teardown, the folder of the GPU's interrupts is empty. It disappears only at an unbind."""
    address = sim.addresses[0]
    power = sim.root / f"proc/driver/nvidia/gpus/{address}/power"
    interrupts = sim.root / f"sys/bus/pci/devices/{address}/msi_irqs"
    assert power.read_text().startswith("Runtime D3 status:          ?\n") and not interrupts.exists()
    with opened(sim, "nvidia0"):
        assert power.read_text().startswith("Runtime D3 status:          Disabled by default\n")
        assert (interrupts / "64").read_text() == "msi\n"
        assert os.listdir(interrupts) == ["64"]
        assert not (interrupts.parent.with_name(sim.addresses[1]) / "msi_irqs").exists()
        assert (sim.root / "sys/module/nvidia/refcnt").read_text() == "1\n"
    assert power.read_text().startswith("Runtime D3 status:          ?\n") and os.listdir(interrupts) == []
    information = power.with_name("information").read_text()
    assert "??" not in information and "N/A" not in information, "the values that the driver has read are not cached"
    sim.ctl("unbind", gpu=0)
    assert not interrupts.exists()


def test_a_failed_initialisation_leaves_an_empty_folder_of_interrupts(sim):
    sim.ctl("fail", gpu=0)
    with pytest.raises(OSError):
        with opened(sim, "nvidia0"):
            pass
    assert os.listdir(sim.root / f"sys/bus/pci/devices/{sim.addresses[0]}/msi_irqs") == []


def test_files_of_proc_and_sys_cannot_be_written(sim):
    with pytest.raises(PermissionError):
        (sim.root / "sys/devices/system/memory/auto_online_blocks").write_text("offline")
    with pytest.raises(OSError):
        (sim.root / "dev/another").touch()
    with pytest.raises(PermissionError):
        (sim.root / "dev/nvidia0").chmod(0o600)


def test_run_and_var_run_are_the_same_ordinary_folder(sim):
    (sim.root / "run/other").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(sim.root)  # the path would be too long for a socket's address
        try:
            listener.bind("run/other/socket")
        finally:
            os.chdir("/")
    assert stat.S_ISSOCK((sim.root / "var/run/other/socket").stat().st_mode)


def test_unbind_remove_and_add_change_the_folders_of_a_gpu(sim):
    address = sim.addresses[1]
    folders = [sim.root / "proc/driver/nvidia/gpus" / address, sim.root / "sys/bus/pci/devices" / address]
    sim.ctl("unbind", gpu=1)
    assert [folder.exists() for folder in folders] == [False, True]
    sim.ctl("remove", gpu=1)
    assert [folder.exists() for folder in folders] == [False, False]
    assert (sim.root / "dev/nvidia1").exists(), "the real driver does not remove device nodes"
    with pytest.raises(OSError) as raised, opened(sim, "nvidia1"):
        pass
    assert raised.value.errno == errno.ENODEV
    sim.ctl("add", gpu=1)
    assert [folder.exists() for folder in folders] == [True, True]


# ---- open and close ----


def test_the_first_open_initialises_and_the_last_close_tears_down(sim):
    with opened(sim, "nvidia0"):
        with opened(sim, "nvidia0"):
            gpu = sim.gpu(sim.addresses[0])
            assert (gpu["initialised"], gpu["usage_count"], gpu["initialisations"]) == (True, 2, 1)
            assert {handle["pid"] for handle in gpu["handles"]} == {os.getpid()}
        assert sim.gpu(sim.addresses[0])["usage_count"] == 1
    gpu = sim.gpu(sim.addresses[0])
    assert (gpu["initialised"], gpu["usage_count"], gpu["teardowns"]) == (False, 0, 1)


def test_the_last_close_returns_after_the_teardown(make_sim):
    sim = make_sim(scenario(1, "lock = 1ms\ninit = 1ms\nteardown = 300ms\n"))
    for count in range(1, 6):
        with opened(sim, "nvidia0") as fd:
            os.close(fd)
            assert len(events(sim, "torn-down")) == count


def test_a_close_causes_no_teardown_while_a_duplicate_is_open(sim):
    with opened(sim, "nvidia0") as fd, opened(sim, "nvidia0") as other:
        duplicate = os.dup(fd)
        os.close(other)
        os.close(fd)
        assert sim.gpu(sim.addresses[0])["usage_count"] == 1
        os.close(duplicate)
        assert sim.gpu(sim.addresses[0])["usage_count"] == 0
    assert events(sim, "torn-down") == ["torn-down"]


def test_a_forked_copy_keeps_the_gpu_until_it_ends(sim):
    with opened(sim, "nvidia0") as fd, Holder(pass_fds=[fd]) as holder:
        os.close(fd)
        assert sim.gpu(sim.addresses[0])["usage_count"] == 1
        holder.kill()
        wait_event(sim, "torn-down")


def test_a_uvm_file_keeps_its_gpu_until_its_last_descriptor_is_closed(sim):
    uuid = uuid_bytes(sim, 0)
    with opened(sim, "nvidia0") as fd, opened(sim, "nvidia-uvm") as uvm_fd:
        assert (uvm_initialize(uvm_fd), uvm_register(uvm_fd, uuid)) == (NV_OK, NV_OK)
        os.close(fd)
        assert sim.gpu(sim.addresses[0])["usage_count"] == 1
        os.close(uvm_fd)
        assert sim.gpu(sim.addresses[0])["usage_count"] == 0


def test_the_end_of_a_killed_process_counts_as_a_close(sim):
    with Holder() as holder:
        holder.tell(f"import os; fd = os.open({str(sim.root / 'dev/nvidia0')!r}, os.O_RDWR)")
        assert sim.gpu(sim.addresses[0])["handles"][0]["pid"] == holder.pid
        holder.kill()
    wait_event(sim, "torn-down")
    assert sim.gpu(sim.addresses[0])["usage_count"] == 0


def test_a_process_killed_during_an_open_leaves_no_user(make_sim):
    sim = make_sim(scenario(1, gpu0="hang = yes"))
    with Holder() as holder:
        holder.process.stdin.write(f"import os; os.open({str(sim.root / 'dev/nvidia0')!r}, os.O_RDWR)\n")
        holder.process.stdin.flush()
        wait_event(sim, "initialising")
        holder.process.kill()
        sim.ctl("hang", gpu=0, on=False)
        holder.process.wait()
    wait_event(sim, "torn-down")
    gpu = sim.gpu(sim.addresses[0])
    assert (gpu["usage_count"], gpu["initialised"], gpu["handles"]) == (0, False, [])


def test_a_passed_descriptor_keeps_the_gpu_after_the_opener_has_died(sim):
    ours, theirs = socket.socketpair()
    with ours, theirs, Holder(pass_fds=[theirs.fileno()]) as holder:
        holder.tell(f"import os, socket, array; fd = os.open({str(sim.root / 'dev/nvidia0')!r}, os.O_RDWR); "
                    f"s = socket.socket(fileno={theirs.fileno()}); socket.send_fds(s, [b'x'], [fd])")
        holder.kill()
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    gpu = sim.gpu(sim.addresses[0])
    assert (gpu["usage_count"], gpu["initialised"]) == (1, True)
    assert struct.unpack("iI", ioctl(fd, WAIT_OPEN, bytes(8))) == (0, NV_OK)
    os.close(fd)
    assert events(sim, "torn-down") == ["torn-down"], "the last close returned before the teardown"


def test_a_descriptor_in_transit_through_a_socket_keeps_the_gpu(sim):
    receiver, sender = socket.socketpair()
    with receiver, sender, opened(sim, "nvidia0") as fd:
        socket.send_fds(sender, [b"x"], [fd])
        os.close(fd)
        assert sim.gpu(sim.addresses[0])["usage_count"] == 1
        _, (arrived,), _, _ = socket.recv_fds(receiver, 1, 1)
        assert struct.unpack("iI", ioctl(arrived, WAIT_OPEN, bytes(8))) == (0, NV_OK)
        os.close(arrived)
        assert sim.gpu(sim.addresses[0])["usage_count"] == 0


def test_a_program_started_while_a_gpu_is_open_does_not_hang(sim):
    with opened(sim, "nvidia0"):
        # The child's execve() closes its copy of the descriptor, while the kernel blocks readers of the child's /proc files.
        assert subprocess.run(["true"], close_fds=False, timeout=20, check=False).returncode == 0
        assert sim.gpu(sim.addresses[0])["usage_count"] == 1


def test_after_many_concurrent_opens_and_closes_all_counts_are_right(make_sim):
    sim = make_sim(scenario(2, "lock = 0ms\ninit = 1ms\nteardown = 1ms\n"))
    code = ("import os, sys\n"
            "for i in range(40):\n"
            " fd = os.open(sys.argv[1 + i % 2], os.O_RDWR)\n"
            " copy = os.dup(fd)\n"
            " os.close(fd)\n"
            " os.close(copy)\n")
    nodes = [str(sim.root / f"dev/nvidia{minor}") for minor in (0, 1)]
    with opened(sim, "nvidia0"):
        jobs = [subprocess.Popen([sys.executable, "-c", code, *nodes]) for _ in range(4)]
        assert [job.wait(timeout=60) for job in jobs] == [0] * 4
        # If the simulator cannot tell whether a close was the last one, it waits for RELEASE, which may come a moment later.
        gpu = wait_gpu(sim, 0, usage_count=1)
        assert gpu["teardowns"] == 0, "a GPU was torn down although it was open all the time"
    assert not sim.errors.has("fault")
    for index in (0, 1):
        gpu = wait_gpu(sim, index, usage_count=0, initialised=False)
        assert gpu["initialisations"] == gpu["teardowns"]


def test_an_open_fails_with_the_drivers_error(make_sim):
    sim = make_sim(scenario(3, gpu0="excluded = yes", gpu1="fail_opens = 1\nfail_status = NV_ERR_INSUFFICIENT_POWER",
                            gpu2="lost = surprise"))
    for minor, expected in enumerate((errno.EPERM, errno.EIO, errno.ENODEV)):
        with pytest.raises(OSError) as raised, opened(sim, f"nvidia{minor}"):
            pass
        assert raised.value.errno == expected
    bus = int(sim.addresses[1].split(":")[1], 16)
    with opened(sim, "nvidiactl") as fd:
        assert struct.unpack("IBB2xI", ioctl(fd, STATUS_CODE, struct.pack("IBB2xI", 0, bus, 0, 99)))[3] == 0x1c


def test_a_deferred_open_returns_at_once_and_wait_open_waits_for_it(make_sim):
    sim = make_sim(scenario(1, gpu0="hang = yes"))
    with opened(sim, "nvidia0", os.O_NONBLOCK) as fd:
        wait_event(sim, "initialising")
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(0) == [(fd, select.POLLERR)]
        sim.ctl("hang", gpu=0, on=False)
        assert struct.unpack("iI", ioctl(fd, WAIT_OPEN, b"\xff" * 8)) == (0, NV_OK)
        assert poll.poll(0) == []


def test_a_deferred_open_that_fails_leaves_a_file_that_only_fails(make_sim):
    sim = make_sim(scenario(1, gpu0="fail_opens = all\nfail_status = NV_ERR_GPU_IS_LOST"))
    with opened(sim, "nvidia0", os.O_NONBLOCK) as fd:
        assert struct.unpack("iI", ioctl(fd, WAIT_OPEN, bytes(8))) == (-errno.EIO, 0x0f)
        assert ioctl_errno(fd, NUMA_INFO, bytes(560)) == errno.EIO


def opens_and_ends(sim, how):
    """The code of a program that opens GPU 0 with O_NONBLOCK, prints a line, and then does `how`."""
    return (f"import os, signal; os.open({str(sim.root / 'dev/nvidia0')!r}, os.O_RDWR | os.O_NONBLOCK); "
            f"print(flush=True); {how}")


@pytest.mark.parametrize("how", ("os._exit(0)", "os.close(3); os._exit(0)"), ids=("exit", "close"))
def test_a_process_that_exits_waits_for_its_deferred_open(make_sim, how):
    sim = make_sim(scenario(1, gpu0="hang = yes"))
    with subprocess.Popen([sys.executable, "-c", opens_and_ends(sim, how)], stdout=subprocess.PIPE) as program:
        program.stdout.readline()
        wait_event(sim, "initialising")
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.5)
        sim.ctl("hang", gpu=0, on=False)
        assert program.wait(10) == 0
    assert events(sim, "close-deferred") == []
    wait_gpu(sim, 0, usage_count=0, teardowns=1)


@pytest.mark.parametrize("number", (signal.SIGKILL, signal.SIGTERM))
def test_a_process_that_is_killed_does_not_wait_for_its_deferred_open(make_sim, number):
    sim = make_sim(scenario(1, gpu0="hang = yes"))
    with subprocess.Popen([sys.executable, "-c", opens_and_ends(sim, "signal.pause()")],
                          stdout=subprocess.PIPE) as program:
        program.stdout.readline()
        program.send_signal(number)
        assert program.wait(10) == -number
    wait_event(sim, "close-deferred")
    sim.ctl("hang", gpu=0, on=False)
    wait_gpu(sim, 0, usage_count=0, teardowns=1)


def open_and_close(sim, name):
    with opened(sim, name):
        pass


@pytest.mark.parametrize("version", VERSIONS)
def test_before_545_nvidiactl_cannot_be_opened_while_a_gpu_is_initialised(make_sim, version):
    sim = make_sim(driver(version, 2, gpu0="hang = yes"))
    first = Background(open_and_close, sim, "nvidia0")
    wait_event(sim, "initialising")
    ctl = Background(open_and_close, sim, "nvidiactl")
    if version < "545":
        assert not ctl.ended(within=0.3)
    else:
        ctl.result()
    open_and_close(sim, "nvidia-uvm")  # another kernel module, which does not wait
    sim.ctl("hang", gpu=0, on=False)
    first.result()
    ctl.result()


def test_a_status_query_waits_for_the_device_list_and_for_rms_lock(make_sim):
    sim = make_sim(scenario(2, gpu0="hang = yes"))
    question = struct.pack("IBB2xI", 0, int(sim.addresses[1].split(":")[1], 16), 0, 99)
    with opened(sim, "nvidiactl") as ctl:
        first = Background(open_and_close, sim, "nvidia0")
        wait_event(sim, "initialising")
        ioctl(ctl, STATUS_CODE, question)
        second = Background(open_and_close, sim, "nvidia0")  # has the lock of the device list while it waits
        assert not second.ended(within=0.3)
        status = Background(ioctl, ctl, STATUS_CODE, question)
        assert not status.ended(within=0.3)
        sim.ctl("hang", gpu=0, on=False)
        for call in (first, second, status):
            call.result()
        sim.ctl("hang", gpu=0, on=True, which="close")
        third = Background(open_and_close, sim, "nvidia0")
        wait_until(lambda: len(sim.journal("close")) == 3, "the third close has begun")
        status = Background(ioctl, ctl, STATUS_CODE, question)
        client = Background(lambda: Rm(ctl).handle)
        assert not status.ended(within=0.3) and not client.ended(within=0.3)
        sim.ctl("hang", gpu=0, on=False, which="close")
        for call in (third, status, client):
            call.result()


def test_a_signal_interrupts_a_wait_for_an_open(make_sim):
    sim = make_sim(scenario(1, gpu0="hang = yes"))
    with opened(sim, "nvidia0", os.O_NONBLOCK) as fd, Holder(pass_fds=[fd]) as holder:
        holder.tell("import signal, fcntl; signal.signal(signal.SIGALRM, lambda *_: sys.exit(3)); "
                    "signal.setitimer(signal.ITIMER_REAL, 0.2)")
        holder.process.stdin.write(f"fcntl.ioctl({fd}, {abi.command(WAIT_OPEN, 8)}, bytearray(8))\n")
        holder.process.stdin.flush()
        assert holder.process.wait(timeout=10) == 3
        sim.ctl("hang", gpu=0, on=False)  # close() also waits for the open


# ---- ioctls ----


def test_ioctls_require_exact_sizes_and_the_right_node(sim):
    with opened(sim, "nvidiactl") as ctl, opened(sim, "nvidia0") as gpu:
        assert struct.unpack("iI", ioctl(ctl, WAIT_OPEN, b"\xff" * 8)) == (0, 0)
        for number, size in ((200, 71), (206, 12), (209, 16), (210, 64), (214, 4), (218, 4), (0x2a, 24), (0x2b, 40)):
            assert ioctl_errno(ctl, number, bytes(size)) == errno.EINVAL
        for number, size in ((215, 552), (215, 564), (216, 8), (213, 4)):
            assert ioctl_errno(gpu, number, bytes(size)) == errno.EINVAL
        assert ioctl_errno(gpu, CARD_INFO, bytes(72 * 32)) == errno.EINVAL
        assert ioctl_errno(gpu, SYS_PARAMS, bytes(8)) == errno.EINVAL
        assert ioctl_errno(ctl, NUMA_INFO, bytes(560)) == errno.EINVAL
        assert len(ioctl(gpu, NUMA_INFO, bytes(560))) == 560
    assert sim.status()["unknown_ioctls"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_before_595_a_wait_on_nvidiactl_may_have_any_size(make_sim, version):
    sim = make_sim(driver(version, 1))
    with opened(sim, "nvidiactl") as ctl, opened(sim, "nvidia0") as gpu:
        for size in (4, 16):
            if "550" < version < "595":
                assert ioctl(ctl, 218, b"\xff" * size)[:8] == bytes(8)[:size]
            else:
                assert ioctl_errno(ctl, 218, bytes(size)) == errno.EINVAL
            assert ioctl_errno(gpu, 218, bytes(size)) == errno.EINVAL


def test_an_older_driver_has_a_smaller_numa_structure(make_sim):
    sim = make_sim("[driver]\nversion = 525.60.13\n" + scenario(1))
    with opened(sim, "nvidia0") as fd:
        assert ioctl_errno(fd, NUMA_INFO, bytes(560)) == errno.EINVAL
        assert len(ioctl(fd, 215, bytes(552))) == 552
        assert ioctl_errno(fd, WAIT_OPEN, bytes(8)) == errno.EINVAL, "drivers before 550.40.07 have no such ioctl"


def test_an_unknown_ioctl_is_refused_and_reported_with_its_number(sim):
    with opened(sim, "nvidiactl") as ctl, opened(sim, "nvidia-uvm") as uvm_fd:
        for _ in range(2):
            assert ioctl_errno(ctl, 77, bytes(8)) == errno.EINVAL
        with pytest.raises(OSError):
            uvm(uvm_fd, 4711, bytes(8))
    unknown = {(item["node"], item["command"]): item["count"] for item in sim.status()["unknown_ioctls"]}
    assert sorted(unknown.values()) == [1, 2] and {command for _, command in unknown} == {abi.command(77, 8), 4711}


def test_card_info_lists_gpus_but_not_excluded_ones(make_sim):
    sim = make_sim(scenario(3, gpu1="excluded = yes"))
    with opened(sim, "nvidiactl") as fd:
        assert ioctl_errno(fd, CARD_INFO, bytes(72 * 2)) == errno.EINVAL, "there must be room for three GPUs"
        answer = ioctl(fd, CARD_INFO, b"\xff" * 72 * 32)
    cards = [struct.unpack_from("=B3xIBBBxHHI", answer, 72 * i) for i in range(32)]
    minors = [struct.unpack_from("I", answer, 72 * i + 56)[0] for i in range(32)]
    buses = [int(address.split(":")[1], 16) for address in sim.addresses]
    assert [card[0] for card in cards] == [1, 1] + [0] * 30
    assert [card[2] for card in cards[:2]] == [buses[0], buses[2]] and minors[:2] == [0, 2]
    assert [card[7] for card in cards[:2]] == [buses[0] << 8, buses[2] << 8]


def test_check_version_checks_and_reports_the_version(sim):
    version = b"595.45.04".ljust(64, b"\0")
    with opened(sim, "nvidiactl") as fd:
        assert ioctl(fd, CHECK_VERSION, struct.pack("II64s", 0x32, 0, b""))[4:] == struct.pack("I", 1) + version
        assert ioctl(fd, CHECK_VERSION, struct.pack("II64s", 0, 0, version))[4:] == struct.pack("I", 1) + version
        assert ioctl(fd, CHECK_VERSION, struct.pack("II64s", 0x31, 0, b"595.1"))[4:] == struct.pack("I", 1) + version
        assert ioctl_errno(fd, CHECK_VERSION, struct.pack("II64s", 0, 1, b"580.159.04")) == errno.EINVAL


def test_check_version_also_reports_the_version_when_it_refuses(sim):
    block, address = pointed(struct.pack("II64s", 0, 1, b"580.159.04"))
    libc = ctypes.CDLL(None, use_errno=True)
    with opened(sim, "nvidiactl") as fd:
        assert libc.ioctl(fd, ctypes.c_ulong(abi.command(CHECK_VERSION, 72)), ctypes.c_void_p(address)) == -1
        assert ctypes.get_errno() == errno.EINVAL
    assert block.raw == struct.pack("II64s", 0, 0, b"595.45.04")


def test_a_large_payload_is_passed_by_pointer(sim):
    block, address = pointed(bytes(72 * 300))
    with opened(sim, "nvidiactl") as fd:
        assert ioctl_errno(fd, XFER, struct.pack("IIQ", CARD_INFO, 16385, address)) == errno.EINVAL
        ioctl(fd, XFER, struct.pack("IIQ", CARD_INFO, 72 * 200, address))
        assert [block.raw[72 * i] for i in range(3)] == [1, 1, 0]
        assert ioctl_errno(fd, XFER, struct.pack("IIQ", CARD_INFO, 72, 0)) == errno.EFAULT
        assert ioctl_errno(fd, XFER, struct.pack("IIQ", 211, 16, address)) == errno.EINVAL


def test_attached_gpus_stay_initialised_until_the_file_is_closed(sim):
    ids = [int(address.split(":")[1], 16) << 8 for address in sim.addresses]
    with opened(sim, "nvidiactl") as fd:
        assert ioctl_errno(fd, 212, struct.pack("II", ids[0], 0xbad00)) == errno.EINVAL
        ioctl(fd, 212, struct.pack("III", ids[0], 0, ids[1]))
        assert [gpu["initialised"] for gpu in sim.status()["gpus"]] == [True, True]
        assert ioctl_errno(fd, 212, struct.pack("I", ids[0])) == errno.EINVAL, "a file may attach GPUs only once"
    assert [gpu["initialised"] for gpu in sim.status()["gpus"]] == [False, False]


def test_a_coherent_gpu_opens_only_after_the_block_size_is_set(make_sim):
    sim = make_sim(scenario(1, gpu0="coherent = yes\nnuma = offline\nnuma_auto_online = yes"))
    with pytest.raises(OSError) as raised, opened(sim, "nvidia0"):
        pass
    assert raised.value.errno == errno.EINVAL
    text = (sim.root / f"proc/driver/nvidia/gpus/{sim.addresses[0]}/numa_status").read_text()
    assert text.startswith("Node:      ") and "\nStatus:    offline\n" in text
    size = int((sim.root / "sys/devices/system/memory/block_size_bytes").read_text(), 16)
    with opened(sim, "nvidiactl") as fd:
        ioctl(fd, SYS_PARAMS, struct.pack("Q", size))
        ioctl(fd, SYS_PARAMS, struct.pack("Q", size))
        assert ioctl_errno(fd, SYS_PARAMS, struct.pack("Q", size * 2)) == errno.EBUSY
    with opened(sim, "nvidia0") as fd:
        fields = struct.unpack_from("iiQQQB", ioctl(fd, NUMA_INFO, bytes(560)))
        assert (fields[2], fields[5]) == (size, 1)


# ---- UVM ----


def test_uvm_registers_a_gpu_only_for_a_process_that_has_it_open(sim):
    uuid, folder = uuid_bytes(sim, 0), sim.root / "proc/driver/nvidia-uvm/gpus"
    with opened(sim, "nvidia-uvm") as fd:
        assert uvm_register(fd, uuid) == ILLEGAL_ACTION
        assert uvm_initialize(fd) == NV_OK
        assert uvm_register(fd, uuid) == INSUFFICIENT_PERMISSIONS
        with opened(sim, "nvidia0"):
            assert uvm_register(fd, uuid) == NV_OK
            assert uvm_register(fd, uuid) == INVALID_DEVICE
            assert os.listdir(folder) == [sim.status()["gpus"][0]["uuid"]]
        assert sim.gpu(sim.addresses[0])["initialised"], "the registration alone does not keep the GPU initialised"
        assert uvm_unregister(fd, uuid) == NV_OK
        assert os.listdir(folder) == [] and not sim.gpu(sim.addresses[0])["initialised"]


def test_uvm_counts_a_descriptor_received_from_another_process(sim):
    ours, theirs = socket.socketpair()
    with ours, theirs, Holder(pass_fds=[theirs.fileno()]) as holder, opened(sim, "nvidia-uvm") as uvm_fd:
        holder.tell(f"import os, socket; fd = os.open({str(sim.root / 'dev/nvidia0')!r}, os.O_RDWR); "
                    f"socket.send_fds(socket.socket(fileno={theirs.fileno()}), [b'x'], [fd]); os.close(fd)")
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
        assert uvm_initialize(uvm_fd) == NV_OK
        assert uvm_register(uvm_fd, uuid_bytes(sim, 0)) == NV_OK
        os.close(fd)


def test_uvm_waits_for_the_fabric(make_sim):
    sim = make_sim(scenario(1, gpu0="fabric_delay = 60s"))
    with opened(sim, "nvidia0"), opened(sim, "nvidia-uvm") as fd:
        assert uvm_initialize(fd) == NV_OK
        assert uvm_register(fd, uuid_bytes(sim, 0)) == FABRIC_NOT_READY
        sim.ctl("fabric", gpu=0, delay="0s")
        assert uvm_register(fd, uuid_bytes(sim, 0)) == NV_OK


def test_a_bad_pointer_causes_only_an_error(sim):
    with opened(sim, "nvidia-uvm") as fd:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.ioctl(fd, ctypes.c_ulong(UVM_INITIALIZE), ctypes.c_void_p(8)) == -1
        assert ctypes.get_errno() == errno.EFAULT
    with opened(sim, "nvidiactl") as fd:
        rm = Rm(fd)
        answer = ioctl(fd, RM_CONTROL, struct.pack("IIIIQII", rm.handle, rm.handle, 0x501, 0, 8, 8, 0))
        assert struct.unpack("IIIIQII", answer)[6] == 0x1e


# ---- RM ----


def test_poll_reports_unbind_and_bind(sim):
    gpu_id = int(sim.addresses[0].split(":")[1], 16) << 8
    with opened(sim, "nvidiactl") as ctl, opened(sim, "nvidiactl") as event_fd, opened(sim, "nvidia0") as gpu:
        rm = Rm(ctl)
        rm.subscribe(event_fd)
        assert rm.next_notice() is None
        poll = select.epoll()
        poll.register(event_fd, select.EPOLLIN)
        assert poll.poll(0) == []
        unbind = threading.Thread(target=sim.ctl, args=["unbind"], kwargs={"gpu": 0})
        unbind.start()
        assert poll.poll(10) == [(event_fd, select.EPOLLIN)], "the notice did not come before the wait for users"
        assert rm.next_notice() == (gpu_id, False) and rm.next_notice() is None
        assert unbind.is_alive() and sim.gpu(sim.addresses[0])["unbinding"]
        os.close(gpu)
        unbind.join(10)
        assert not unbind.is_alive()
        sim.ctl("bind", gpu=0)
        assert poll.poll(10) == [(event_fd, select.EPOLLIN)]
        assert rm.next_notice() == (gpu_id, True) and rm.next_notice() is None
        assert poll.poll(0) == [], "reading the notice did not clear the event"
        poll.close()


def test_an_event_file_opened_nonblocking_is_never_woken(sim):
    with opened(sim, "nvidiactl") as ctl, opened(sim, "nvidiactl", os.O_NONBLOCK) as trap, \
            opened(sim, "nvidiactl") as witness:
        trapped, other = Rm(ctl), Rm(ctl)
        trapped.subscribe(trap)
        other.subscribe(witness)
        poll, witness_poll = select.poll(), select.poll()
        poll.register(trap, select.POLLIN)
        witness_poll.register(witness, select.POLLIN)
        woken = []

        def wait():
            started = time.monotonic()
            woken.append((poll.poll(1500), time.monotonic() - started))

        waiter = threading.Thread(target=wait)
        waiter.start()
        in_kernel = Path(f"/proc/self/task/{waiter.native_id}/wchan")  # the kernel function in which the thread sleeps
        wait_until(lambda: "poll" in in_kernel.read_text(), "the thread sleeps in poll()")
        sim.ctl("unbind", gpu=0)
        assert witness_poll.poll(10000) == [(witness, select.POLLIN)]
        waiter.join()
        # poll() checks once more when its time is over, and finds the event then.
        found, waited = woken[0]
        assert found == [(trap, select.POLLIN)] and waited >= 1.5
        assert trapped.next_notice() is not None


def test_a_device_object_and_the_legacy_query_need_the_gpu_open(sim):
    with opened(sim, "nvidiactl") as ctl:
        rm = Rm(ctl)
        assert rm.device(0) == 0x40, "RM must not make an object of a cold GPU"
        with Holder() as holder:
            holder.tell(f"import os; os.open({str(sim.root / 'dev/nvidia0')!r}, os.O_RDWR)")
            assert rm.device(0) == INSUFFICIENT_PERMISSIONS
        wait_gpu(sim, 0, usage_count=0)
        with opened(sim, "nvidia0"):
            opens = len(sim.journal("open"))
            device = abi.device_handle(0)
            assert rm.device(0) == NV_OK
            assert rm.control(device, 0x800288, b"\xff" * 4) == (NV_OK, struct.pack("I", 1))
            sim.ctl("legacy", gpu=0, on=True)
            assert rm.control(device, 0x800288, b"\xff" * 4) == (NV_OK, struct.pack("I", 0))
            assert rm.control(device, 0x800287, struct.pack("I", 1))[0] == NV_OK
            assert not sim.gpu(sim.addresses[0])["legacy"]
            assert len(sim.journal("open")) == opens, "the control opened a GPU"
            sim.ctl("drain", gpu=0)
            assert rm.device(1) == 0x40 and rm.device(0) == INVALID_ARGUMENT


def test_objects_exist_only_on_nvidiactl_and_are_checked_before_the_control(sim):
    with opened(sim, "nvidiactl") as ctl, opened(sim, "nvidia0") as gpu:
        for rm_class in (0x0, 0x1, 0x41, 0x80):
            assert ioctl_errno(gpu, RM_ALLOC, struct.pack("IIIIQII", 0, 0, 0, rm_class, 0, 0, 0)) == errno.EINVAL
        assert ioctl_errno(gpu, RM_CONTROL, bytes(32)) == errno.EINVAL
        rm = Rm(ctl)
        for command in (0x800288, 0x501, 0x12345678):
            assert rm.control(0xdead, command, bytes(4))[0] == OBJECT_NOT_FOUND
        assert rm.control(0xdead, 0x800288, bytes(4), client=0xbeef)[0] == INVALID_CLIENT
    assert sim.status()["unknown_ioctls"] == []


def test_get_id_info_returns_the_device_instance_of_an_initialised_gpu(sim):
    gpu_id = int(sim.addresses[1].split(":")[1], 16) << 8
    with opened(sim, "nvidiactl") as ctl:
        rm = Rm(ctl)
        question = struct.pack("I", gpu_id) + bytes(28)
        assert rm.control(rm.handle, 0x205, question)[0] == INVALID_ARGUMENT, "RM must not know a cold GPU"
        with opened(sim, "nvidia1"):
            status, answer = rm.control(rm.handle, 0x205, question)
            assert status == NV_OK and struct.unpack_from("I", answer, 8)[0] == 1


def test_a_driver_before_575_accepts_the_subscription_but_has_no_notices(make_sim):
    sim = make_sim("[driver]\nversion = 570.86.15\n" + scenario(1))
    with opened(sim, "nvidiactl") as ctl, opened(sim, "nvidiactl") as event_fd:
        rm = Rm(ctl)
        rm.subscribe(event_fd)
        assert rm.control(rm.handle, 0x502, bytes(12))[0] == INVALID_ARGUMENT


def test_a_client_belongs_to_its_file_and_ends_with_it(sim):
    with opened(sim, "nvidiactl") as one, opened(sim, "nvidiactl") as two:
        mine, other = Rm(one), Rm(two)
        assert mine.control(other.handle, 0x502, bytes(12), client=other.handle)[0] == INVALID_CLIENT
        os.close(two)
        assert rm_alloc(one, 0, 0, other.handle, abi.ROOT_CLIENT) == (NV_OK, other.handle), "the handle is not free again"
        assert mine.control(mine.handle, 0x999, bytes(4))[0] == NOT_SUPPORTED
        assert mine.control(mine.handle, 0x501, struct.pack("II", 3, 2))[0] == INVALID_STATE, "there is no event object yet"
    assert [item["command"] for item in sim.status()["unknown_ioctls"]] == [0x999]


# ---- stop, kill and start of the simulator ----


@pytest.mark.parametrize("state", ["open", "opening", "hung", "unbinding"])
def test_a_stop_does_not_wait_for_open_files(make_sim, state):
    sim = make_sim(scenario(1, gpu0="hang = yes" if state in ("opening", "hung") else ""))
    flags = os.O_NONBLOCK if state == "hung" else 0
    with Holder() as holder:
        line = f"import os; fd = os.open({str(sim.root / 'dev/nvidia0')!r}, os.O_RDWR | {flags})"
        if state == "opening":
            holder.process.stdin.write(line + "\n")
            holder.process.stdin.flush()
            wait_event(sim, "initialising")
        else:
            holder.tell(line)
        if state == "unbinding":
            with sim._connect(10) as connection:
                connection.sendall(b'{"verb": "unbind", "gpu": 0}\n')
                wait_event(sim, "unbind-begun")
                started = time.monotonic()
                sim.stop()
        else:
            started = time.monotonic()
            sim.stop()  # asserts that it exits with 0
        assert time.monotonic() - started < 5, "the simulator waits for an open file"
    assert not os.path.ismount(sim.root) and os.listdir(sim.root) == ["run"]


def test_a_simulator_takes_over_the_mount_of_a_killed_one(build, make_sim):
    sim = make_sim()
    with opened(sim, "nvidia0"):
        os.kill(sim.pid, signal.SIGKILL)
        assert process.wait_gone(sim.pid, 10)
        with pytest.raises(OSError) as raised:
            os.stat(sim.root)
        assert raised.value.errno == errno.ENOTCONN
        successor = Simulator(build, sim.root, scenario(3), mount=True)
        try:
            nodes = [name for name in os.listdir(sim.root / "dev") if name[-1].isdigit()]
            assert sorted(nodes) == ["nvidia0", "nvidia1", "nvidia2"]
        finally:
            successor.stop()
    sim._kill()


def test_a_second_simulator_on_a_folder_is_refused(build, sim):
    second = subprocess.run([build / "sim/holdfast-sim", "run", "--root", sim.root], capture_output=True, text=True,
                            timeout=20, check=False)
    assert second.returncode == 1
    assert second.stderr == (f"holdfast-sim: another simulator serves {sim.root}; stop it, or choose another folder\n")
    assert (sim.root / "dev/nvidia0").exists()


def test_without_root_a_mount_is_refused_and_the_message_names_socket(build, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("root is missing: the test becomes another user")
    refused = subprocess.run([build / "sim/holdfast-sim", "run", "--root", "/tmp"], user=process.NOBODY,
                             capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 1
    assert "needs root" in refused.stderr and "--socket" in refused.stderr


def test_an_error_in_a_scenario_is_reported_with_its_line(build, tmp_path):
    (tmp_path / "bad.ini").write_text("[gpus]\ncount = 2\nspeed = 7\n")
    refused = subprocess.run([build / "sim/holdfast-sim", "run", "--socket", tmp_path / "s", "--scenario",
                              tmp_path / "bad.ini"], capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 1 and "bad.ini:3" in refused.stderr


# ---- the socket and the library ----

SHIM = """
import ctypes
class Device(ctypes.Structure): _fields_ = [(name, ctypes.c_int) for name in ('domain', 'bus', 'slot', 'function')]
lib = ctypes.CDLL({path!r})
def devices():
    count, list = ctypes.c_int(), ctypes.POINTER(Device)()
    assert lib.nvCfgGetPciDevices(ctypes.byref(count), ctypes.byref(list)) == 1
    return [(list[i].domain, list[i].bus, list[i].slot, list[i].function) for i in range(count.value)]
def open(*address):
    handle = ctypes.c_void_p()
    return handle if lib.nvCfgOpenPciDevice(*address, ctypes.byref(handle)) == 1 else None
"""


@pytest.fixture
def shim(build, make_sim):
    """A simulator with only a socket, and a process that has loaded its library."""
    sim = make_sim(mount=False)
    code = SHIM.format(path=str(build / "sim/nvidia-cfg/libnvidia-cfg.so.1"))
    with Holder(environment={"HOLDFAST_SIM_SOCKET": str(sim.socket_path), "HOLDFAST_SIM_DEBUG": "1"}) as holder:
        holder.tell(f"exec({code!r})")
        yield sim, holder


def test_the_library_lists_opens_and_closes(shim):
    sim, holder = shim
    expected = [(0, int(address.split(":")[1], 16), 0, 0) for address in sim.addresses]
    holder.tell(f"assert devices() == {expected}")
    holder.tell("handle = open(*devices()[0]); assert handle")
    gpu = sim.gpu(sim.addresses[0])
    assert (gpu["initialised"], gpu["handles"][0]["pid"]) == (True, holder.pid)
    holder.tell("assert lib.nvCfgEnableUVMPersistence(handle) == 0")
    assert sim.gpu(sim.addresses[0])["uvm"] == 1
    holder.tell("assert lib.nvCfgDisableUVMPersistence(handle) == 0")
    holder.tell("assert lib.nvCfgCloseDevice(handle) == 1")
    assert not sim.gpu(sim.addresses[0])["initialised"], "the close returned before the teardown"
    assert sim.gpu(sim.addresses[0])["uvm"] == 0


def test_the_end_of_a_killed_user_of_the_library_releases_its_gpus(shim):
    sim, holder = shim
    holder.tell("handles = [open(*device) for device in devices()]; assert all(handles)")
    assert all(gpu["initialised"] for gpu in sim.status()["gpus"])
    holder.kill()
    for address in sim.addresses:
        wait_event(sim, "torn-down", address)


def test_the_library_reports_failures_and_a_missing_simulator(shim):
    sim, holder = shim
    holder.tell("assert open(0, 1, 2, 3) is None")
    holder.tell("assert lib.nvCfgCloseDevice(None) == 0")
    sim.ctl("fail", gpu=0, count=1)
    holder.tell("assert open(*devices()[0]) is None; handle = open(*devices()[0]); assert handle")
    sim.stop()
    holder.tell("assert lib.nvCfgCloseDevice(handle) == 0")
    holder.tell("assert lib.nvCfgGetPciDevices(ctypes.byref(ctypes.c_int()), ctypes.byref(ctypes.c_void_p())) == 0")


def test_the_library_exports_only_its_five_functions(build):
    output = subprocess.run(["nm", "-D", "--defined-only", build / "sim/nvidia-cfg/libnvidia-cfg.so.1"],
                            capture_output=True, text=True, check=True).stdout
    assert sorted(line.split()[2] for line in output.splitlines()) == [
        "nvCfgCloseDevice", "nvCfgDisableUVMPersistence", "nvCfgEnableUVMPersistence", "nvCfgGetPciDevices",
        "nvCfgOpenPciDevice"]


@pytest.mark.parametrize("line", [b"\n", b"nonsense\n", b"[]\n", b'{"verb": 7}\n', b'{"verb": "fly"}\n', b"\0\n",
                                  b'{"verb": "open", "domain": -1, "bus": 0, "slot": 0, "function": 0}\n',
                                  b'{"verb": "open"}\n', b'{"verb": "close"}\n', b'{"verb": "uvm", "enable": 1}\n'])
def test_a_bad_request_gets_an_error_and_the_connection_remains_usable(make_sim, line):
    sim = make_sim(mount=False)
    with sim._connect(10) as connection, connection.makefile("rb") as answers:
        connection.sendall(line)
        answer = json.loads(answers.readline())
        assert not answer["ok"] and len(answer["error"]) > 10
        assert sim._ask(connection, "status")["version"] == 1


def test_a_request_that_is_too_long_is_skipped(make_sim):
    sim = make_sim(mount=False)
    with sim._connect(10) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"x" * 200000 + b"\n")
        assert b"64 KiB" in answers.readline()
        assert sim._ask(connection, "status")["version"] == 1


def test_a_simulator_at_a_socket_needs_no_privileges(build, make_sim):
    if os.geteuid() != 0:
        pytest.skip("root is missing: the test becomes another user")
    with tempfile.TemporaryDirectory(prefix="holdfast-sim-") as folder:
        os.chown(folder, process.NOBODY, process.NOBODY)
        run = subprocess.Popen([build / "sim/holdfast-sim", "run", "--socket", f"{folder}/socket"],
                               user=process.NOBODY, stdout=subprocess.PIPE, text=True)
        try:
            assert run.stdout.readline() == "ready\n"
            assert stat.S_IMODE(os.stat(f"{folder}/socket").st_mode) == 0o666
            run.terminate()
            assert run.wait(timeout=10) == 0
            assert os.listdir(folder) == []
        finally:
            run.kill()
            run.wait()
            run.stdout.close()


# ---- the command ----


@pytest.fixture
def ctl(build, make_sim):
    """ctl("status") runs `holdfast-sim ctl status` on the test's simulator, ctl.sim. It returns the finished process."""
    sim = make_sim(mount=False)

    def run(*arguments):
        return subprocess.run([build / "sim/holdfast-sim", "ctl", "--socket", sim.socket_path, *arguments],
                              capture_output=True, text=True, timeout=20, check=False)

    run.sim = sim
    return run


def test_ctl_status_is_a_table_or_json(ctl):
    table = ctl()
    assert table.returncode == 0 and table.stdout.startswith("Simulated driver 595.45.04, 2 GPUs\n")
    assert len([line for line in table.stdout.splitlines() if " cold " in line]) == 2
    answer = json.loads(ctl("status", "--json").stdout)
    assert answer["version"] == 1 and [gpu["address"] for gpu in answer["gpus"]] == ctl.sim.addresses
    with ctl.sim.open_gpu(ctl.sim.addresses[1]) as job:
        line = ctl().stdout.splitlines()[4]
        assert " initialised " in line and f"({job.pid})" in line


def test_ctl_set_warns_that_a_setting_of_a_gpu_without_users_is_lost(ctl):
    lost = ctl("set", "--gpu", "0", "--power-limit", "500")
    assert lost.returncode == 0 and "persistence mode is off" in lost.stderr
    assert ctl.sim.status()["gpus"][0]["settings"]["power_limit_w"] == 700
    with ctl.sim.open_gpu(ctl.sim.addresses[0]):
        kept = ctl("set", "--gpu", "0", "--power-limit", "500", "--compute-mode", "Prohibited")
        assert (kept.returncode, kept.stderr) == (0, "")
        assert ctl.sim.status()["gpus"][0]["settings"]["power_limit_w"] == 500


def test_ctl_reset_refuses_a_gpu_in_use(ctl):
    assert ctl("reset", "--gpu", "0").stdout.endswith("was successfully reset.\n")
    with ctl.sim.open_gpu(ctl.sim.addresses[0]) as job:
        refused = ctl("reset", "--gpu", "0")
        assert refused.returncode == 1 and refused.stdout == ""
        assert "In use by another client" in refused.stderr and refused.stderr.count("\n") == 1
        assert f"(pid {job.pid})" in refused.stderr


@pytest.mark.parametrize("arguments, member, value", [
    (["fail", "--gpu", "1", "--count", "2", "--status", "NV_ERR_GPU_IS_LOST"], "fail_opens", 2),
    (["fail", "--gpu", "1", "--count", "all"], "fail_opens", "all"),
    (["hang", "--gpu", "1"], "hang", "open"),
    (["hang", "--gpu", "1", "--close"], "hang", "close"),
    (["hang", "--gpu", "1", "--off"], "hang", None),
    (["lose", "--gpu", "1", "--surprise"], "surprise", True),
    (["drain", "--gpu", "1"], "drain", True),
    (["drain", "--gpu", "1", "--off"], "drain", False),
    (["legacy", "on", "--gpu", "1"], "legacy", True),
    (["legacy", "off", "--gpu", "1"], "legacy", False),
    (["unbind", "--gpu", "1"], "bound", False),
    (["remove", "--gpu", "1"], "present", False),
])
def test_each_verb_changes_the_model(ctl, arguments, member, value):
    done = ctl(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"GPU {ctl.sim.addresses[1]}: done\n"
    assert ctl.sim.status()["gpus"][1][member] == value


def test_ctl_removes_adds_unbinds_and_binds_a_gpu(ctl):
    for verb in ("remove", "add", "unbind", "bind"):
        assert ctl(verb, "--gpu", ctl.sim.addresses[0]).returncode == 0
    assert ctl.sim.status()["gpus"][0]["bound"]
    assert ctl("drain", "--gpu", "all").stdout.count(": done\n") == 2


def test_ctl_journal_prints_the_records_that_were_asked_for(ctl):
    with ctl.sim.open_gpu(ctl.sim.addresses[0]):
        pass
    wait_event(ctl.sim, "torn-down")
    lines = ctl("journal").stdout.splitlines()
    assert [word for line in lines for word in line.split()[2:3] if word in ("initialised", "torn-down")] == [
        "initialised", "torn-down"]
    last = int(lines[-1].split()[0])
    assert ctl("journal", "--since", str(last)).stdout == ""
    assert len(json.loads(ctl("journal", "--event", "torn-down", "--json").stdout)["records"]) == 1


@pytest.mark.parametrize("arguments", [["fly"], ["status", "more"], ["legacy", "--gpu", "0"], ["legacy", "maybe"],
                                       ["reset", "--count", "3"], ["reset", *["--gpu", "0"] * 16, "--count", "3"],
                                       ["legacy", "on", "--off"], ["--bogus"], ["fail", "--gpu"]])
def test_wrong_usage_of_ctl_exits_with_2_and_points_to_the_help(ctl, arguments):
    misused = ctl(*arguments)
    assert misused.returncode == 2 and misused.stdout == "" and "--help" in misused.stderr


def test_a_refused_verb_has_one_sentence_and_exit_status_1(ctl):
    for arguments in (["reset"], ["reset", "--gpu", "9"], ["fail", "--gpu", "0", "--status", "NV_NONSENSE"]):
        refused = ctl(*arguments)
        assert refused.returncode == 1 and refused.stdout == ""
        assert refused.stderr.startswith("holdfast-sim ctl: ") and refused.stderr.count("\n") == 1


def test_ctl_without_a_simulator_says_where_it_looked(build, tmp_path):
    for arguments in (["--socket", tmp_path / "none"], ["--root", tmp_path]):
        alone = subprocess.run([build / "sim/holdfast-sim", "ctl", *arguments, "status"], capture_output=True,
                               text=True, timeout=20, check=False)
        assert alone.returncode == 1 and "no simulator answers at" in alone.stderr


def test_help_goes_to_standard_output_and_wrong_usage_to_standard_error(build):
    for arguments in (["--help"], ["run", "--help"], ["ctl", "--help"]):
        answer = subprocess.run([build / "sim/holdfast-sim", *arguments], capture_output=True, text=True, timeout=20,
                                check=False)
        assert (answer.returncode, answer.stderr) == (0, "") and answer.stdout.startswith("Usage: holdfast-sim")
    for arguments in ([], ["walk"], ["run"], ["run", "--gpus", "0", "--socket", "x"], ["run", "x"],
                      ["run", "--cuse", "--socket", "x"]):
        answer = subprocess.run([build / "sim/holdfast-sim", *arguments], capture_output=True, text=True, timeout=20,
                                check=False)
        assert (answer.returncode, answer.stdout) == (2, "") and "--help" in answer.stderr
