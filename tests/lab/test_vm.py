# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The units as shipped, on a separate kernel with character devices 195:N and enforced device rules, AppArmor profiles and
limits. The simulator counts initialisations and teardowns."""

import pytest

from harness import events
from vm import service

# The first test also waits for the machine: minutes if nothing is cached.
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("vm")]

CTL = "/dev/nvidiactl"
CONFIGURATION = "/etc/holdfast/holdfast.conf"
PROFILE = "holdfast-nvidia-persistenced"
# A sandboxed service has its own /proc. A real driver's files are in every /proc, the simulator's only in the first.
SHOW_PROC = "[Service]\nBindReadOnlyPaths=/proc/driver\n"
DROP_IN = f"/run/systemd/system/{service.UNIT}.d/lab.conf"


@pytest.fixture(scope="module")
def gpus(vm):
    """Two simulated GPUs, whose files in /proc the service can see."""
    vm.gpus.load(gpus=2)
    vm.write(DROP_IN, SHOW_PROC)
    vm.exec("apparmor_parser", "--replace", f"/etc/apparmor.d/{PROFILE}")
    vm.exec("systemctl", "daemon-reload")
    yield vm.gpus
    vm.exec("systemctl", "stop", service.UNIT)
    vm.exec("rm", DROP_IN)
    vm.gpus.unload()


@pytest.fixture
def held(vm, gpus):
    """The running service, which holds both GPUs."""
    vm.exec("systemctl", "start", service.UNIT)
    service.wait_held(vm, gpus.addresses)
    return vm


def counts(gpus):
    """Returns for each GPU the initialisations, the teardowns, and how many processes have it open."""
    return [(gpu["initialisations"], gpu["teardowns"], gpu["usage_count"]) for gpu in gpus.status()["gpus"]]


def test_the_nodes_are_the_drivers_character_devices(vm, gpus):
    nodes = vm.exec("stat", "--format", "%n %F %a %Hr:%Lr", CTL, "/dev/nvidia0", "/dev/nvidia1").splitlines()
    assert nodes == [f"{CTL} character special file 666 195:255",
                     "/dev/nvidia0 character special file 666 195:0",
                     "/dev/nvidia1 character special file 666 195:1"]


def test_doctors_cure_for_two_invalid_nodes_names_both(vm, gpus):
    nodes = ["/dev/nvidia0", "/dev/nvidia1"]
    for node in nodes:
        vm.exec("sh", "-c", f"mv {node} {node}.aside && touch {node}")
    try:
        checks = {check["id"]: check for check in vm.try_exec("holdfast", "doctor", "--json").json()["checks"]}
        assert checks["nodes"]["cure"] == "rm /dev/nvidia0 /dev/nvidia1 && nvidia-modprobe -c 0 -c 1"
    finally:
        for node in nodes:
            vm.exec("mv", "--force", f"{node}.aside", node)


def test_the_service_has_one_descriptor_of_each_gpu(held, gpus):
    files = held.exec("readlink", *held.exec(f"echo /proc/{service.show(held, 'MainPID')}/fd/*").split()).split()
    assert (files.count("/dev/nvidia0"), files.count("/dev/nvidia1")) == (1, 1)
    assert [users for _, _, users in counts(gpus)] == [1, 1]


@pytest.mark.parametrize("how", ["restart", "kill --signal=KILL"])
def test_neither_a_restart_nor_a_kill_tears_a_gpu_down(held, gpus, how):
    before = counts(gpus)
    socket = held.exec("stat", "--format=%i", service.SOCKET)
    pid = service.show(held, "MainPID")
    held.exec("systemctl", *how.split(), service.UNIT)
    service.wait_held(held, gpus.addresses)  # systemd holds the socket, so this waits for the new process
    assert service.show(held, "MainPID") != pid
    assert counts(gpus) == before
    assert held.exec("stat", "--format=%i", service.SOCKET) == socket


def test_a_stop_tears_each_gpu_down_and_a_start_initialises_it(held, gpus):
    before = counts(gpus)
    held.exec("systemctl", "stop", service.UNIT)
    assert counts(gpus) == [(up, down + 1, 0) for up, down, _ in before]
    held.exec("systemctl", "start", service.UNIT)
    service.wait_held(held, gpus.addresses)
    assert counts(gpus) == [(up + 1, down + 1, 1) for up, down, _ in before]


def test_a_set_off_is_answered_after_the_drivers_teardown(held, gpus):
    (up, down, _), other = counts(gpus)
    held.exec("holdfast", "set", "off", "--gpu", "0")
    assert counts(gpus) == [(up, down + 1, 0), other]
    held.exec("holdfast", "set", "on", "--gpu", "0")
    assert counts(gpus) == [(up + 1, down + 1, 1), other]


@pytest.fixture
def uvm(held, gpus):
    """The service with UVM persistence."""
    held.write(CONFIGURATION, "[gpu *]\nuvm-persistence = on\n")
    held.exec("systemctl", "reload", service.UNIT)
    events.wait_until(lambda: uvm_registrations(gpus) == [1, 1], "UVM has both GPUs", 30)
    yield held
    held.exec("rm", CONFIGURATION)
    held.exec("systemctl", "reload", service.UNIT)


def uvm_registrations(gpus):
    return [gpu["uvm"] for gpu in gpus.status()["gpus"]]


def test_a_uvm_registration_outlives_a_kill_of_the_daemon(uvm, gpus):
    before = counts(gpus)
    uvm.exec("systemctl", "kill", "--signal=KILL", service.UNIT)
    service.wait_held(uvm, gpus.addresses)
    assert (counts(gpus), uvm_registrations(gpus)) == (before, [1, 1])


def test_the_service_opens_the_drivers_devices_and_no_others(held):
    opened = 'for node; do (: <>"$node") 2>/dev/null && echo "$node"; done'
    tried = ("/dev/nvidia0", "/dev/nvidia1", CTL, "/dev/nvidia-uvm", "/dev/null",
             "/dev/vda", "/dev/mem", "/dev/kmsg", "/dev/ttyS0", "/dev/fuse", "/dev/cuse")
    assert held.exec("sh", "-c", opened, "sh", *tried).split() == list(tried), "outside the service root can open all of them"
    inside = service.try_inside(held, f"set -- {' '.join(tried)}; {opened}").out.split()
    assert inside == list(tried[:5])


def test_the_apparmor_profile_denies_nothing_that_the_service_does(held, gpus):
    held.exec("systemctl", "restart", service.UNIT)
    service.wait_held(held, gpus.addresses)
    label = held.read(f"/proc/{service.show(held, 'MainPID')}/attr/current").strip()
    assert label == f"{PROFILE} (enforce)"
    denials = [line for line in held.kernel_messages() if 'apparmor="DENIED"' in line]
    assert not [line for line in denials if 'comm="nvidia-persiste' in line]


def test_the_apparmor_profile_denies_what_the_service_does_not_need(held):
    shadow = held.try_exec("aa-exec", "--profile", PROFILE, "--", "cat", "/etc/shadow")
    assert (shadow.status, shadow.out) == (1, "") and "Permission denied" in shadow.err
    assert "NVRM" in held.exec("aa-exec", "--profile", PROFILE, "--", "cat", "/proc/driver/nvidia/version")
    assert any('apparmor="DENIED"' in line and 'name="/etc/shadow"' in line for line in held.kernel_messages())


@pytest.fixture
def limited(held):
    """The service with limits set by an administrator."""
    held.exec("systemctl", "set-property", "--runtime", service.UNIT, "MemoryMax=48M", "TasksMax=16")
    yield held
    held.exec("systemctl", "set-property", "--runtime", service.UNIT, "MemoryMax=", "TasksMax=")


def test_the_services_limit_of_tasks_is_enforced(limited):
    assert service.try_inside(limited, "exec sleep 0").status == 0
    crowd = service.try_inside(limited, "for i in $(seq 20); do sleep 5 & done")
    assert crowd.status != 0 and "Cannot fork" in crowd.err
    assert service.status(limited)["held"] == 2


def test_a_daemon_that_exceeds_its_memory_is_killed_and_no_gpu_is_torn_down(limited, gpus):
    before = counts(gpus)
    service.try_inside(limited, "head --bytes=200M /dev/zero | tail")
    assert any("Memory cgroup out of memory: Killed process" in line and "(tail)" in line
               for line in limited.kernel_messages())
    service.wait_held(limited, gpus.addresses)
    assert counts(gpus) == before
