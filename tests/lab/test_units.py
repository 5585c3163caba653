# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Our own units: what test_verbatim.py and test_restart.py do not test."""

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
    """Returns the fields of the daemon's /proc/PID/status."""
    lines = node.read(f"/proc/{pid_of(node)}/status").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def problems(node):
    """Returns the checks of `holdfast doctor` that found a problem, by name."""
    checks = node.try_exec("holdfast", "doctor", "--json").json()["checks"]
    return {check["id"]: check for check in checks if check["verdict"] == "problem"}


@pytest.fixture
def running(node):
    node.exec("systemctl", "enable", "--now", SERVICE)
    assert node.gpus.users() == [1, 1]
    return node


def test_the_units_sandbox_is_in_force_as_documented(running):
    node = running
    node.exec("systemd-analyze", "security", "--threshold=6", SERVICE)
    pid, status = pid_of(node), status_of(node)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    user = node.exec("id", "--user", "nvidia-persistenced").strip()
    assert status["Uid"].split() == [user] * 4
    # It has its own network and its own /proc, in which other users' processes are hidden.
    assert node.exec("readlink", f"/proc/{pid}/ns/net") != node.exec("readlink", "/proc/1/ns/net")
    assert "hidepid=invisible" in node.read(f"/proc/{pid}/mountinfo")


def test_the_keepers_sandbox_permits_less_than_the_daemons(running):
    node = running
    node.exec("systemd-analyze", "security", "--threshold=5", KEEPER)
    pid = node.exec("systemctl", "show", "--property=MainPID", "--value", KEEPER).strip()
    lines = node.read(f"/proc/{pid}/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert node.exec("stat", "--format=%U %a %F", "/run/holdfast/keeper").strip() == "nvidia-persistenced 600 socket"


def test_from_within_the_sandbox_the_daemon_distinguishes_host_root_from_a_containers_root(running):
    node = running
    node.exec("holdfast", "set", "off", "--gpu", "0")
    node.gpus.wait_users(0, 1)
    inside = node.try_exec("unshare", "--pid", "--fork", "--mount-proc", "holdfast", "set", "on", "--gpu", "0")
    assert inside.status != 0
    wait_until(lambda: "another PID namespace" in node.journal(unit=SERVICE), "the refusal in the log", 20)
    assert node.gpus.users() == [0, 1]


def test_a_stop_leaves_nothing_behind_and_a_client_does_not_restart_the_daemon(running):
    node = running
    folder = node.path(FOLDER).stat().st_ino
    node.exec("systemctl", "stop", SERVICE)
    assert node.exec("ls", "-A", FOLDER) == ""
    assert node.try_exec("holdfast", "check").status == 2
    assert (state_of(node, SERVICE), state_of(node, SOCKET_UNIT)) == ("inactive", "inactive")
    node.gpus.wait_released()

    # A container that has mounted the folder can reach the next daemon.
    node.exec("systemctl", "start", SERVICE)
    assert node.path(FOLDER).stat().st_ino == folder
    assert node.gpus.users() == [1, 1]


@pytest.mark.parametrize("loss", [
    f"rm {FOLDER}/socket",
    f"rm -r {FOLDER}",
    f"systemctl stop {SOCKET_UNIT}",
])
def test_doctors_cure_makes_a_removed_socket_anew_and_tears_no_gpu_down(running, loss):
    node = running
    node.exec(loss)
    assert node.try_exec("holdfast", "check").status == 2, "nobody reaches the daemon"
    found = problems(node)
    assert list(found) == ["socket-inode"]
    node.exec(found["socket-inode"]["cure"])
    assert problems(node) == {}
    assert "OK" in node.exec("holdfast", "check")
    node.gpus.wait_users(1, 1)
    assert [gpu["teardowns"] for gpu in node.gpus.status()["gpus"]] == [0, 0]


def test_a_reload_reads_the_configuration_again(running):
    node = running
    node.write("/etc/holdfast/holdfast.conf", "[gpu *]\npersistence = off\n")
    node.exec("systemctl", "reload", SERVICE)
    node.gpus.wait_users(0, 0)
    assert "Configuration read again" in node.journal(unit=SERVICE)


def test_starting_one_of_our_two_services_stops_the_other(running):
    """Only one daemon can have the socket, so our units conflict."""
    node = running
    node.exec("systemctl", "start", "holdfast.service")
    assert (state_of(node, SERVICE), state_of(node, "holdfast.service")) == ("inactive", "active")
    node.gpus.wait_users(1, 1)
    checks = {check["id"]: check for check in node.try_exec("holdfast", "doctor", "--json").json()["checks"]}
    assert checks["unit"]["cure"] == "systemctl enable --now holdfast", "doctor checks the unit that runs"
    node.exec("systemctl", "start", SERVICE)
    assert (state_of(node, SERVICE), state_of(node, "holdfast.service")) == ("active", "inactive")
    node.gpus.wait_users(1, 1)


def test_restarts_have_no_limit_but_a_missing_program_is_a_failure(node):
    """If systemd gave up, the GPUs would be torn down when the keeper's time ends. By default it does so at the sixth
    start within 10 s; RestartSec= is 1 s, and grows from systemd 254 on."""
    node.exec("systemctl", "enable", "--now", SERVICE)
    show = ("systemctl", "show", "--property=StartLimitIntervalUSec", "--value", SERVICE)
    assert node.exec(*show).strip() == "0"
    for _ in range(6):
        killed = pid_of(node)
        node.exec("kill", "-KILL", killed)
        wait_until(lambda before=killed: pid_of(node) not in ("0", before), "another daemon", timeout=60)
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
    assert state_of(node, SERVICE) == "inactive", "the timer started the daemon"


def test_missing_nodes_are_made_for_a_daemon_that_is_not_root(node):
    """The unit's ExecStartPre= and the udev rule make the nodes when the driver is loaded and nodes are missing."""
    for name in ("nvidiactl", "nvidia1"):
        node.exec("umount", f"/dev/{name}")
        node.exec("rm", f"/dev/{name}")
    # Without HOLDFAST_ROOT the nodes are real, not simulated.
    node.exec("env", "--unset=HOLDFAST_ROOT", "nvidia-persistenced", "--make-nodes")
    made = node.exec("stat", "--format=%n %F %a %t:%T", "/dev/nvidiactl", "/dev/nvidia1").splitlines()
    assert made == ["/dev/nvidiactl character special file 666 c3:ff", "/dev/nvidia1 character special file 666 c3:1"]


def test_with_the_drop_in_for_numa_memory_the_daemon_onlines_it_as_root_with_two_capabilities(bare_node):
    """As on POWER9, where user space onlines the memory: the sandbox permits writes to /sys and the driver's calls for root."""
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
    """Without NVML the settings cannot be applied. The service reports that and runs the hooks; the GPUs stay held."""
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

    wait_until(lambda: all(shown()) and len(shown()) == 2, "the report about both GPUs", timeout=30)
    assert all("cannot load libnvidia-ml.so.1" in problem for problem in shown())
    wait_until(lambda: "hook: held of 1" in node.journal(unit="holdfast-settings.service"), "the hook's message", timeout=30)
    node.exec("holdfast", "set", "off", "--gpu", "0")
    wait_until(lambda: "hook: released of 0" in node.journal(unit="holdfast-settings.service"), "the hook's message",
               timeout=30)
    assert node.gpus.users() == [0, 1]
    pid = node.exec("systemctl", "show", "--property=MainPID", "--value", "holdfast-settings.service").strip()
    fields = dict(line.split(":\t", 1) for line in node.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert int(fields["CapBnd"], 16) == 1 << CAP_DAC_OVERRIDE | 1 << CAP_SYS_PTRACE | 1 << CAP_SYS_ADMIN
    node.exec("systemctl", "stop", "holdfast-settings.service")
    assert node.try_exec("holdfast", "settings").out.count("holdfast-settings.service does not run") == 2
    assert node.gpus.users() == [0, 1]


def test_settings_are_applied_again_after_each_event_that_makes_the_driver_forget_them(running):
    """The unit is unchanged; the stand-in for NVML is at the path of the driver's package."""
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
    assert have() == [settings.APPLIED] * 2, "the daemon reports the GPU as held only after the settings are applied"
    for away, back in (("unbind", "bind"), ("remove", "add")):
        node.gpus.ctl(away, gpu=0)
        node.gpus.ctl(back, gpu=0)
        wait_until(lambda: have() == [settings.APPLIED] * 2, f"the settings after {away} and {back}", timeout=30)
    node.exec("systemctl", "restart", SERVICE)
    node.reboot()
    wait_until(lambda: have() == [settings.APPLIED] * 2, "the settings after a boot", timeout=60)
    wait_until(lambda: node.try_exec("holdfast", "settings").status == 0, "nothing that differs", timeout=30)
