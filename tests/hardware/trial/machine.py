# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The machine: its driver and GPUs as /proc shows them, and what a container or missing permissions prevent.

Nothing here opens a GPU.
"""

import ctypes
import dataclasses
import os
import platform
import re
import stat
from pathlib import Path

NV_MAJOR = 195
PR_CAPBSET_DROP = 24
CAP_SYS_MODULE, CAP_SYS_PTRACE, CAP_MKNOD = 16, 19, 27


@dataclasses.dataclass
class Gpu:
    address: str
    minor: int = None
    uuid: str = ""
    model: str = "?"
    node: Path = None
    unusable: str = ""  # why it cannot be held here; empty if it can


def read_fields(path):
    """Returns the `name: value` lines of a file in /proc as a dictionary."""
    fields = {}
    for line in path.read_text().splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip()] = value.strip()
    return fields


def normal_address(text):
    """Converts an address from nvidia-smi's spelling (00000000:17:00.0) to that of sysfs."""
    domain, rest = text.strip().lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}"


def make_nothing():
    """Prevents that programs started from here make device nodes or load modules, even as root or with the setuid bit.
    Returns whether that was possible."""
    libc = ctypes.CDLL(None, use_errno=True)
    return all([libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0 for capability in (CAP_MKNOD, CAP_SYS_MODULE)])


def has_capability(capability):
    return bool(int(read_fields(Path("/proc/self/status"))["CapEff"], 16) >> capability & 1)


class Machine:
    """root is prepended to /dev, /proc, /sys and /run. "" is the real system, "/" a simulated driver at the real paths."""

    def __init__(self, root):
        self.root = "" if root == "/" else root
        self.simulated = bool(root)
        self.driver = self._driver_version()
        self.gpus = self._list_gpus()

    def path(self, name):
        return Path(f"{self.root}{name}")

    @property
    def usable(self):
        return [gpu for gpu in self.gpus if not gpu.unusable]

    @property
    def runtime_directory(self):
        """The path in NVIDIA's protocol begins with /var/run, usually a link to /run. A root has only /run."""
        return self.path("/run/nvidia-persistenced" if self.root else "/var/run/nvidia-persistenced")

    def _driver_version(self):
        try:
            text = self.path("/proc/driver/nvidia/version").read_text()
        except OSError:
            return None
        found = re.search(r" (\d+\.\d+(\.\d+)?) ", text)
        return found[1] if found else "?"

    def _list_gpus(self):
        folder = self.path("/proc/driver/nvidia/gpus")
        try:
            return [self._read_gpu(address) for address in sorted(os.listdir(folder))]
        except OSError:
            return []

    def _read_gpu(self, address):
        gpu = Gpu(address)
        try:
            fields = read_fields(self.path(f"/proc/driver/nvidia/gpus/{address}/information"))
        except OSError as error:
            gpu.unusable = f"its information cannot be read: {error.strerror}"
            return gpu
        gpu.uuid, gpu.model = fields.get("GPU UUID", ""), fields.get("Model", "?")
        if not fields.get("Device Minor", "").isdecimal():
            gpu.unusable = "the driver reports no device minor"
            return gpu
        gpu.minor = int(fields["Device Minor"])
        gpu.node = self.path(f"/dev/nvidia{gpu.minor}")
        gpu.unusable = self._why_unusable(gpu, fields)
        return gpu

    def _why_unusable(self, gpu, fields):
        if fields.get("GPU Excluded") == "Yes":
            return "the administrator excluded it from the driver"
        try:
            status = gpu.node.stat()
        except OSError as error:
            return f"no node {gpu.node}: {error.strerror}"
        if not self.simulated and (not stat.S_ISCHR(status.st_mode)
                                   or status.st_rdev != os.makedev(NV_MAJOR, gpu.minor)):
            return f"{gpu.node} is not the device {NV_MAJOR}:{gpu.minor}"
        return "" if os.access(gpu.node, os.R_OK | os.W_OK) else f"uid {os.getuid()} may not open {gpu.node}"

    def is_initialised(self, gpu):
        """Returns True or False, or None if the driver does not report it."""
        try:
            state = read_fields(self.path(f"/proc/driver/nvidia/gpus/{gpu.address}/power")).get("Runtime D3 status")
        except OSError:
            return None
        return None if state is None else state != "?"

    @property
    def is_open_to_all(self):
        """Whether everybody may open the nodes, which is the driver's default."""
        nodes = [self.path("/dev/nvidiactl"), *(gpu.node for gpu in self.usable)]
        return all(node.exists() and node.stat().st_mode & 0o006 == 0o006 for node in nodes)

    def has_numa_memory(self, gpu):
        return self.path(f"/proc/driver/nvidia/gpus/{gpu.address}/numa_status").exists()

    def is_registered(self, gpu):
        """Whether any process has registered the GPU with UVM, or None if the driver's list is not visible."""
        folder = self.path("/proc/driver/nvidia-uvm/gpus")
        return (folder / gpu.uuid).exists() if folder.is_dir() else None

    def nodes(self):
        """Returns the driver's device nodes: {path: mode and number}."""
        found = {}
        for path in sorted(self.path("/dev").glob("nvidia*")):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                found[str(path)] = f"{stat.filemode(status.st_mode)} {os.major(status.st_rdev)}:" \
                                   f"{os.minor(status.st_rdev)}"
        return found

    def modules(self):
        try:
            lines = Path("/proc/modules").read_text().splitlines()
        except OSError:
            return []
        return sorted(line.split()[0] for line in lines if line.startswith("nvidia"))

    def facts(self):
        """Returns facts about the machine for the record, which people read on other machines."""
        own = read_fields(Path("/proc/self/status"))
        return {
            "driver": self.driver, "GPUs": [vars(gpu) | {"node": str(gpu.node)} for gpu in self.gpus],
            "kernel": platform.release(), "architecture": platform.machine(), "system": system_name(),
            "glibc": " ".join(platform.libc_ver()), "Python": platform.python_version(),
            "uid": os.getuid(), "capabilities (CapEff)": own.get("CapEff"), "seccomp of this process": own.get("Seccomp"),
            "signs of a container": container_signs(),
            "initialised before": {gpu.address: self.is_initialised(gpu) for gpu in self.gpus},
            "in sysfs": {gpu.address: self.path(f"/sys/bus/pci/devices/{gpu.address}").exists() for gpu in self.gpus},
            "nodes": self.nodes(), "modules": self.modules(),
        }


def system_name():
    try:
        found = re.search(r'^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release").read_text(), re.M)
    except OSError:
        return "?"
    return found[1] if found else "?"


def container_signs():
    signs = [name for name in ("/.dockerenv", "/run/.containerenv") if os.path.exists(name)]
    if len(read_fields(Path("/proc/self/status")).get("NSpid", "").split()) > 1:
        signs.append("a PID namespace below another")
    if "container" in os.environ:
        signs.append(f"container={os.environ['container']}")
    return signs
