# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The virtual machine: QEMU without KVM, so that it runs wherever the lab runs. Writes to its disks are discarded."""

import contextlib
import re
import shlex
import subprocess

from harness import events, process
from lab.clock import timed
from lab.host import Host
from lab.space import die_with_parent

from .gpus import Gpus

PORT = 2222  # in the lab's own network, which is not visible outside
KERNEL_FAULT = re.compile(r"BUG:|Oops|general protection|WARNING: CPU|blocked for more than")
# no_timer_check: on a busy host, the timer's interrupts can come too late for the kernel's check, which then panics.
KERNEL_WORDS = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off nowatchdog net.ifnames=0 " \
               "systemd.unit=multi-user.target lsm=landlock,lockdown,yama,integrity,apparmor,bpf"


def kernel_faults(messages):
    return [line for line in messages if KERNEL_FAULT.search(line)]


class Machine(Host):
    name = "vm"

    def __init__(self, lab, image, seed, memory="1G", kernel_words=""):
        """seed: a disk whose content is copied over the image's at boot. kernel_words: for the kernel's command line."""
        self.lab = lab
        self.gpus = Gpus(self)
        self._image = image
        self._seed = seed
        self._memory = memory
        self._kernel_words = f"{KERNEL_WORDS} {kernel_words}".strip()
        self._control = lab.folder / "vm.control"
        self._qemu = None
        self._console = None
        self._master = None

    # ---- power

    def _qemu_command(self):
        disks = [word for number, file in enumerate((self._image / "root.img", self._seed))
                 for word in ("-drive", f"file={file},format=raw,if=none,id=disk{number},snapshot=on",
                              "-device", f"virtio-blk-pci,drive=disk{number}")]
        return ["qemu-system-x86_64", "-machine", "q35", "-nodefaults", "-no-user-config", "-no-reboot",
                "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", self._memory,
                "-display", "none", "-serial", "file:/dev/stdout",
                "-kernel", self._image / "vmlinuz", "-initrd", self._image / "initrd", "-append", self._kernel_words,
                "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{PORT}-:22",
                "-device", "virtio-net-pci,netdev=net,romfile=", *disks]

    def boot(self, timeout=120):
        """Switches the machine on; returns when it accepts commands."""
        with timed("virtual machine's boot"):
            self._qemu = subprocess.Popen([*self.lab.prefix, *map(str, self._qemu_command())],
                                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                          stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
            self._console = events.Lines("the virtual machine's console", self._qemu.stdout)
            self._console.wait_for("^lab: booted", timeout)
            self._connect()
        return self

    def _connect(self):
        """Opens one connection for all commands, because each emulated key exchange takes a second."""
        command = [*self.lab.prefix, "ssh", *self._ssh_options("-M"), "-N", "-o", "PermitLocalCommand=yes",
                   "-o", "LocalCommand=echo connected", "127.0.0.1"]
        self._master = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        events.Lines("ssh to the virtual machine", self._master.stdout).wait_for("^connected$", timeout=30)

    def _ssh_options(self, *more):
        return [*self.lab.ssh_options, "-p", str(PORT), "-S", str(self._control), *more]

    def switch_off(self):
        """Switches the machine off without a shutdown, since there is nothing to save. It may already be off."""
        for child in (self._master, self._qemu):
            if child is not None and child.poll() is None:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(10)
                process.kill_and_reap(child.pid)

    # ---- commands

    def terminal(self):
        """Returns the command line of an interactive shell on this program's terminal."""
        return [*self.lab.prefix, "ssh", "-t", *self._ssh_options("-o", "ControlMaster=no"), "127.0.0.1"]

    def command(self, *words, environment=None):
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        line = shlex.join([*(["env", *variables] if variables else []), *map(str, words)])
        return [*self.lab.prefix, "ssh", *self._ssh_options("-o", "ControlMaster=no"), "127.0.0.1", "--", line]

    def forward(self, here, there):
        """Forwards the socket HERE on this machine to the socket THERE."""
        here.unlink(missing_ok=True)
        command = [*self.lab.prefix, "ssh", *self._ssh_options("-O", "forward", "-L", f"{here}:{there}"), "127.0.0.1"]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True)

    def kernel_messages(self):
        return self.exec("dmesg").splitlines()

    def kernel_faults(self):
        """Returns the kernel messages that report a fault, which no test causes on purpose."""
        return kernel_faults(self.kernel_messages())
