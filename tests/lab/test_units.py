# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Our own units: what they promise besides what test_verbatim.py and test_restart.py show."""

import stat

import pytest

from harness import settings
from harness.events import wait_until
from harness.simulator import QUICK
from lab.lab import BUILD

pytestmark = pytest.mark.each_debian

SERVICE = "nvidia-persistenced.service"
SOCKET_UNIT = "nvidia-persistenced.socket"
KEEPER = "holdfast-keeper.service"
FOLDER = "/run/nvidia-persistenced"

# Numbers of <linux/capability.h>.
CAP_DAC_OVERRIDE = 1
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21

RESET = "/usr/lib/lab/holdfast-sim ctl --root /srv/gpus reset --gpu 0"  # for nvidia-smi --gpu-reset -i 0

NUMA_ONLINE = 3  # of the driver's enum nv_numa_status


def state_of(node, unit):
    return node.try_exec("systemctl", "is-active", unit).out.strip()


def pid_of(node):
    return node.exec("systemctl", "show", "--property=MainPID", "--value", SERVICE).strip()


def status_of(node):
    """The fields of the daemon's /proc/PID/status."""
    lines = node.read(f"/proc/{pid_of(node)}/status").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.fixture
def running(node):
    node.exec("systemctl", "enable", "--now", SERVICE)
    assert node.gpus.users() == [1, 1]
    return node


def test_the_sandbox_is_in_force_and_as_tight_as_promised(running):
    node = running
    node.exec("systemd-analyze", "security", "--threshold=6", SERVICE)
    pid, status = pid_of(node), status_of(node)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    user = node.exec("id", "--user", "nvidia-persistenced").strip()
    assert status["Uid"].split() == [user] * 4
    # The network is its own, and so is /proc, where processes of others are hidden.
    assert node.exec("readlink", f"/proc/{pid}/ns/net") != node.exec("readlink", "/proc/1/ns/net")
    assert "hidepid=invisible" in node.read(f"/proc/{pid}/mountinfo")


def test_the_keepers_sandbox_is_tighter_still(running):
    node = running
    node.exec("systemd-analyze", "security", "--threshold=5", KEEPER)
    pid = node.exec("systemctl", "show", "--property=MainPID", "--value", KEEPER).strip()
    lines = node.read(f"/proc/{pid}/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert node.exec("stat", "--format=%U %a %F", "/run/holdfast/keeper").strip() == "nvidia-persistenced 600 socket"


def test_from_within_the_sandbox_roots_orders_are_told_from_a_containers(running):
    node = running
    node.exec("holdfast", "set", "off", "--gpu", "0")
    assert node.gpus.users() == [0, 1]
    inside = node.try_exec("unshare", "--pid", "--fork", "--mount-proc", "holdfast", "set", "on", "--gpu", "0")
    assert inside.status != 0
    assert "another PID namespace" in node.journal(unit=SERVICE)
    assert node.gpus.users() == [0, 1]


def test_after_a_stop_nothing_is_left_and_nobody_starts_it_again(running):
    node = running
    folder = node.path(FOLDER).stat().st_ino
    node.exec("systemctl", "stop", SERVICE)
    assert node.exec("ls", "-A", FOLDER) == ""
    assert node.try_exec("holdfast", "check").status == 2
    assert (state_of(node, SERVICE), state_of(node, SOCKET_UNIT)) == ("inactive", "inactive")
    assert node.gpus.users() == [0, 0]

    # A container that has the folder mounted finds the next daemon in it.
    node.exec("systemctl", "start", SERVICE)
    assert node.path(FOLDER).stat().st_ino == folder
    assert node.gpus.users() == [1, 1]


def test_a_reload_has_the_configuration_read_again(running):
    node = running
    node.write("/etc/holdfast/holdfast.conf", "[gpu *]\npersistence = off\n")
    node.exec("systemctl", "reload", SERVICE)
    wait_until(lambda: node.gpus.users() == [0, 0], "both GPUs released")
    assert "Configuration read again" in node.journal(unit=SERVICE)


def test_our_two_services_take_turns(running):
    """One daemon has the socket; who starts the other of our units wants that one instead."""
    node = running
    node.exec("systemctl", "start", "holdfast.service")
    assert (state_of(node, SERVICE), state_of(node, "holdfast.service")) == ("inactive", "active")
    assert node.gpus.users() == [1, 1]
    checks = {check["id"]: check for check in node.try_exec("holdfast", "doctor", "--json").json()["checks"]}
    assert checks["unit"]["cure"] == "systemctl enable --now holdfast", "doctor looks at the unit that runs"
    node.exec("systemctl", "start", SERVICE)
    assert (state_of(node, SERVICE), state_of(node, "holdfast.service")) == ("active", "inactive")
    assert node.gpus.users() == [1, 1]


def test_a_daemon_that_dies_again_and_again_is_started_again_and_again(node):
    """Giving up would lose the GPUs after the keeper's time. A program that is missing is another matter."""
    node.exec("systemctl", "enable", "--now", SERVICE)
    show = ("systemctl", "show", "--property=StartLimitIntervalUSec", "--value", SERVICE)
    assert node.exec(*show).strip() == "0"
    node.exec("systemctl", "stop", SERVICE)
    node.exec("mv", "/usr/libexec/holdfast", "/usr/libexec/elsewhere")
    assert node.try_exec("systemctl", "start", SERVICE).status != 0
    assert state_of(node, SERVICE) == "failed"


def test_the_timer_writes_metrics_for_the_textfile_collector(running):
    node = running
    file = "/srv/collector/holdfast.prom"
    node.exec("mkdir", "/srv/collector")
    node.write("/etc/holdfast/metrics.env", f"HOLDFAST_TEXTFILE={file}\n")
    node.exec("systemctl", "start", "holdfast-metrics.service")
    assert "\nholdfast_up 1\n" in node.read(file)
    assert stat.S_IMODE(node.path(file).stat().st_mode) == 0o644

    node.exec("systemctl", "stop", SERVICE)
    node.exec("systemctl", "enable", "--now", "holdfast-metrics.timer")
    assert "holdfast-metrics.service" in node.exec("systemctl", "list-timers", "--all")
    node.exec("systemctl", "start", "holdfast-metrics.service")
    assert "\nholdfast_up 0\n" in node.read(file)
    assert state_of(node, SERVICE) == "inactive", "asking started the daemon"


def test_missing_nodes_are_made_for_the_daemon_that_is_not_root(node):
    """With the driver there and no node: what the unit's ExecStartPre= and the udev rule run."""
    for name in ("nvidiactl", "nvidia1"):
        node.exec("umount", f"/dev/{name}")
        node.exec("rm", f"/dev/{name}")
    # Not the simulated driver's: without HOLDFAST_ROOT they are real ones.
    node.exec("env", "--unset=HOLDFAST_ROOT", "nvidia-persistenced", "--make-nodes")
    made = node.exec("stat", "--format=%n %F %a %t:%T", "/dev/nvidiactl", "/dev/nvidia1").splitlines()
    assert made == ["/dev/nvidiactl character special file 666 c3:ff", "/dev/nvidia1 character special file 666 c3:1"]


def test_with_the_drop_in_for_numa_memory_it_brings_that_online_as_root_with_two_capabilities(bare_node):
    """As on POWER9, where user space does it: the sandbox lets it write to /sys, and ask the driver what only root may."""
    power9 = QUICK + "numa = offline\n[driver]\nmemory_probe = yes\n"
    node = bare_node.simulate(gpus=1, defaults=power9).install()
    example = "/usr/share/holdfast/examples/numa.conf"
    node.exec("install", "-D", "-m", "644", example, f"/etc/systemd/system/{SERVICE}.d/numa.conf")
    node.write("/etc/holdfast/holdfast.conf", "[gpu *]\npersistence = off\n")
    node.exec("systemctl", "daemon-reload")
    node.exec("systemctl", "start", SERVICE)
    status = status_of(node)
    assert status["Uid"].split() == ["0"] * 4
    assert int(status["CapEff"], 16) == 1 << CAP_DAC_OVERRIDE | 1 << CAP_SYS_ADMIN

    node.exec("holdfast", "set", "on")
    assert node.gpus.status()["gpus"][0]["numa"]["status"] == NUMA_ONLINE


def test_the_settings_service_works_in_its_sandbox(running):
    """Without NVML: what is wanted cannot be applied, which is told, and the hooks run; the GPUs are held all the same."""
    node = running
    node.write("/etc/holdfast/holdfast.conf", "[gpu *]\npower-limit = 500\n")
    node.exec("mkdir", "-p", "/etc/holdfast/hooks.d")
    node.write("/etc/holdfast/hooks.d/10-say", "#!/bin/sh\necho \"hook: $EVENT of $GPU_INDEX\"\n")
    node.exec("chmod", "755", "/etc/holdfast/hooks.d/10-say")
    assert state_of(node, "holdfast-settings.service") == "inactive", "not enabled by itself"
    node.exec("systemctl", "enable", "--now", "holdfast-settings.service")
    node.exec("systemd-analyze", "security", "--threshold=20", "holdfast-settings.service")

    def shown():
        gpus = node.try_exec("holdfast", "settings", "--json").json()["gpus"]
        return [gpu["problem"] for gpu in gpus if gpu.get("opens")]

    wait_until(lambda: all(shown()) and len(shown()) == 2, "what was found of both GPUs", timeout=30)
    assert all("cannot load libnvidia-ml.so.1" in problem for problem in shown())
    wait_until(lambda: "hook: held of 1" in node.journal(unit="holdfast-settings.service"), "the hook's word", timeout=30)
    node.exec("holdfast", "set", "off", "--gpu", "0")
    wait_until(lambda: "hook: released of 0" in node.journal(unit="holdfast-settings.service"), "the hook's word",
               timeout=30)
    assert node.gpus.users() == [0, 1]
    pid = node.exec("systemctl", "show", "--property=MainPID", "--value", "holdfast-settings.service").strip()
    fields = dict(line.split(":\t", 1) for line in node.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert int(fields["CapBnd"], 16) == 1 << CAP_DAC_OVERRIDE | 1 << CAP_SYS_PTRACE | 1 << CAP_SYS_ADMIN
    node.exec("systemctl", "stop", "holdfast-settings.service")
    assert node.try_exec("holdfast", "settings").out.count("holdfast-settings.service does not run") == 2
    assert node.gpus.users() == [0, 1]


def test_settings_are_applied_in_the_sandbox_after_whatever_makes_the_driver_forget_them(running):
    """The unit as it is, with the stand-in for NVML where the driver's package has the real one."""
    node = running
    node.put(BUILD / "tests/nvml/libnvidia-ml.so.1", "/usr/lib/libnvidia-ml.so.1")
    node.write("/etc/systemd/system/holdfast-settings.service.d/nvml.conf",
               "[Service]\nEnvironment=HOLDFAST_SIM_SOCKET=/run/holdfast-sim/socket\n")
    node.write("/etc/holdfast/holdfast.conf", settings.WANTED)
    node.exec("systemctl", "daemon-reload")
    node.exec("systemctl", "enable", "--now", "holdfast-settings.service")

    def have():
        return [gpu["settings"] for gpu in node.gpus.status()["gpus"]]

    wait_until(lambda: have() == [settings.APPLIED] * 2, "the settings of both", timeout=30)
    node.exec(f"holdfast release --gpu 0 -- {RESET}")
    assert have() == [settings.APPLIED] * 2, "held again, so it says, only with the settings"
    for away, back in (("unbind", "bind"), ("remove", "add")):
        node.gpus.ctl(away, gpu=0)
        node.gpus.ctl(back, gpu=0)
        wait_until(lambda: have() == [settings.APPLIED] * 2, f"the settings after {away} and {back}", timeout=30)
    node.exec("systemctl", "restart", SERVICE)
    node.reboot()
    wait_until(lambda: have() == [settings.APPLIED] * 2, "the settings after a boot", timeout=60)
    wait_until(lambda: node.try_exec("holdfast", "settings").status == 0, "nothing that differs", timeout=30)
