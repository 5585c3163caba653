# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A driver as a kernel module: loaded after the daemon's start, exchanged while it runs, unbound, unloaded. The kernel decides
what is in use, udev makes the nodes, and uevents report GPUs. The driver itself is a stand-in (module/)."""

import pytest

from harness import events
from vm import seed, service

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("vm")]  # as test_vm.py

OLD, NEW = seed.DRIVERS
ADDRESSES = ("0001:17:00.0", "0001:17:01.0")  # module/gpus.c
DEVICES = "/sys/bus/pci/devices"
DRIVER = "/sys/bus/pci/drivers/nvidia"


def module(version, name="nvidia"):
    return f"{seed.MODULES}/{version}/{name}.ko"


@pytest.fixture(scope="module")
def running(vm):
    """The running service on a machine with GPUs and without a driver."""
    vm.exec("insmod", module(OLD, "gpus"))
    vm.exec("systemctl", "daemon-reload")
    vm.exec("systemctl", "enable", "--now", service.UNIT)
    yield vm
    vm.exec("systemctl", "disable", "--now", service.UNIT)
    vm.exec("rmmod", "nvidia", "gpus")


@pytest.fixture
def driver(running):
    """The older driver is loaded, and both GPUs are held."""
    if "nvidia" not in [line.split()[0] for line in running.read("/proc/modules").splitlines()]:
        running.exec("insmod", module(OLD))
    service.wait_held(running, ADDRESSES)
    return running


def held(machine):
    """Returns the addresses of the GPUs that the daemon holds."""
    return [gpu["address"] for gpu in service.status(machine)["gpus"] if gpu["held"]]


def version(machine):
    return service.status(machine)["driver"]["version"]


def test_gpus_of_a_driver_that_is_loaded_after_the_daemon_are_held(running):
    before = service.status(running)
    assert (before["driver"]["loaded"], before["count"]) == (False, 0)
    running.exec("insmod", module(OLD))
    service.wait_held(running, ADDRESSES)
    assert version(running) == OLD
    assert held(running) == list(ADDRESSES)


def test_udev_makes_the_nodes_with_the_drivers_modes_and_numbers(driver):
    nodes = driver.exec("stat", "--format", "%n %F %a %Hr:%Lr", "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1")
    assert nodes.splitlines() == ["/dev/nvidiactl character special file 666 195:255",
                                  "/dev/nvidia0 character special file 666 195:0",
                                  "/dev/nvidia1 character special file 666 195:1"]


def test_the_module_is_in_use_while_gpus_are_held(driver):
    refused = driver.try_exec("rmmod", "nvidia")
    assert refused.status == 1 and "Module nvidia is in use" in refused.err
    assert held(driver) == list(ADDRESSES)


def test_during_a_release_the_driver_can_be_exchanged_and_the_daemon_stays(driver):
    pid = service.show(driver, "MainPID")
    wanted = NEW if version(driver) == OLD else OLD
    driver.exec("holdfast", "release", "--", "sh", "-c", f"rmmod nvidia && insmod {module(wanted)}")
    service.wait_held(driver, ADDRESSES)
    assert driver.try_exec("holdfast", "doctor").out.startswith("no problem found")
    assert version(driver) == wanted
    assert service.show(driver, "MainPID") == pid


def test_after_a_failed_exchange_the_gpus_are_held_again_with_the_old_driver(driver):
    old = version(driver)
    failed = driver.try_exec("holdfast", "release", "--", "sh", "-c", "rmmod nvidia && insmod /nonexistent.ko")
    assert failed.status == 1 and "nonexistent" in failed.err
    driver.exec("insmod", module(old))
    service.wait_held(driver, ADDRESSES)


# Like usual driver units: it fails if the driver is already loaded.
DRIVER_UNIT = f"""[Unit]
Before={service.UNIT}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=-/sbin/insmod %s
ExecStop=/sbin/rmmod nvidia
[Install]
RequiredBy={service.UNIT}
"""


def test_at_a_restart_of_the_unit_that_loads_the_driver_the_module_is_not_in_use(driver):
    name, wanted = "any-name.service", NEW if version(driver) == OLD else OLD
    driver.write(f"/etc/systemd/system/{name}", DRIVER_UNIT % module(wanted))
    driver.exec("systemctl", "daemon-reload")
    driver.exec("systemctl", "enable", "--now", name)
    try:
        driver.exec("systemctl", "restart", service.UNIT)
        service.wait_held(driver, ADDRESSES)
        refused = driver.try_exec("rmmod", "nvidia")
        assert refused.status == 1 and "is in use" in refused.err, "the daemon's own restart keeps the GPUs"

        driver.exec("systemctl", "restart", name, timeout=60)
        service.wait_held(driver, ADDRESSES)
        assert version(driver) == wanted
        assert "is in use" not in driver.journal(unit=name)
        assert driver.exec("systemctl", "is-active", name, service.UNIT).split() == ["active", "active"]
    finally:
        driver.exec("systemctl", "disable", name, timeout=120)
        driver.exec("rm", f"/etc/systemd/system/{name}")


def test_an_unbind_ends_because_the_daemon_releases_the_gpu_at_the_drivers_notice(driver):
    driver.exec("sh", "-c", f"echo {ADDRESSES[0]} >{DRIVER}/unbind", timeout=20)
    left = held(driver)
    driver.exec("sh", "-c", f"echo {ADDRESSES[0]} >{DRIVER}/bind")
    service.wait_held(driver, ADDRESSES)
    assert left == [ADDRESSES[1]]
    said = driver.journal(unit=service.UNIT)
    assert f"device {ADDRESSES[0]} - the driver is about to unbind it; releasing it." in said


def test_a_gpu_that_is_removed_from_the_bus_is_held_again_when_it_is_added(driver):
    driver.exec("sh", "-c", f"echo 1 >{DEVICES}/{ADDRESSES[1]}/remove", timeout=20)
    left = held(driver)
    driver.exec("sh", "-c", "echo 1 >/sys/bus/pci/rescan")
    service.wait_held(driver, ADDRESSES)
    assert left == [ADDRESSES[0]]


def test_a_uvm_module_that_is_loaded_after_the_service_can_be_used(driver):
    opened = ": <>/dev/nvidia-uvm"
    driver.exec("insmod", module(OLD, "nvidia_uvm"))
    try:
        driver.exec("udevadm", "settle")  # its rule makes the node and makes systemd look up the device number
        events.wait_until(lambda: service.try_inside(driver, opened).status == 0, "the service's rules know UVM", 20)
    finally:
        driver.exec("rmmod", "nvidia_uvm")


def test_the_simulator_refuses_to_make_devices_beside_a_driver(driver):
    refused = driver.try_exec(seed.PROGRAM, "run", "--root", "/srv/gpus", "--cuse")
    assert refused.status == 1 and "another driver has these numbers" in refused.err
    assert driver.try_exec("mountpoint", "--quiet", "/srv/gpus").status != 0


def test_after_a_stop_the_module_can_be_unloaded(driver):
    driver.exec("systemctl", "stop", service.UNIT)
    driver.exec("rmmod", "nvidia")
    driver.exec("systemctl", "start", service.UNIT)
    driver.exec("insmod", module(OLD))
    service.wait_held(driver, ADDRESSES)
