# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast doctor finds each kind of problem with its evidence and its cure, and finds none on a healthy node."""

import contextlib
import ctypes
import errno
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conftest import BUILD, TOP
from harness import process, rpc
from harness.command import PROGRAM, environment, holdfast, opened
from harness.events import wait_until
from harness.fixtures import open_world
from harness.node import FAILED, HELD, OPENING, RELEASED, THREE, UNKNOWN, YES, Row

A, B, C = THREE

DOCTOR_FAILED = 125
RUNBOOKS = TOP / "docs/runbooks"

LIBRARIES = {
    "libnvidia-cfg.so": BUILD / "sim/nvidia-cfg/libnvidia-cfg.so.1",
    "libnvidia-ml.so": BUILD / "tests/nvml/libnvidia-ml.so.1",
}

SERVICE = {
    "ActiveState": "active", "SubState": "running", "Result": "success", "ExecMainStatus": "0", "User": "",
    "LoadState": "loaded", "UnitFileState": "enabled", "RuntimeDirectory": "nvidia-persistenced",
    "FragmentPath": "/usr/lib/systemd/system/nvidia-persistenced.service",
    "ExecStart": "{ path=/usr/bin/nvidia-persistenced ; argv[]=/usr/bin/nvidia-persistenced --verbose ; "
                 "ignore_errors=no ; pid=12 ; code=(null) ; status=0/0 }",
}


# `systemctl show`: the arguments are names and patterns. For a missing unit with a full name it prints LoadState=not-found.
SYSTEMCTL = """#!/bin/sh
[ "$1" = show ] || exit 1
for word; do
        for file in {units}/$word; do
                case $word in
                show | -*) ;;
                *) if [ -e "$file" ]; then cat "$file"; elif [ "$word" = "${{word#*[*]}}" ]; then
                           printf 'Id=%s\\nLoadState=not-found\\nActiveState=inactive\\n' "$word"
                   fi && echo ;;
                esac
        done
done
"""


class Patient:
    """A node without problems, until a test causes one."""

    def __init__(self, node):
        self.node = node
        self.root = node.root
        node.load_driver()
        node.write("proc/driver/nvidia/params", "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\n"
                                                "DeviceFileMode: 438\nExcludedGpus: \"\"\n")
        node.write("proc/devices", "Character devices:\n195 nvidia\n511 nvidia-uvm\n\nBlock devices:\n259 blkext\n")
        for name in ("nvidiactl", "nvidia-uvm"):
            node.write(f"dev/{name}", "")
        for minor, address in enumerate((A, B, C)):
            node.add_gpu(address, minor, initialised=True)
            self.put_on_bus(address)
        for file in (self.root / "dev").iterdir():
            file.chmod(0o666)
        for library in ("libnvidia-ml.so", "libnvidia-cfg.so"):
            self.install(library, "595.45.04")
        self.cache_libraries()
        node.write(f"lib/modules/{platform.release()}/modules.dep", "kernel/fs/fuse.ko:\nupdates/dkms/nvidia.ko.zst:\n")
        self.program = node.write("usr/bin/nvidia-persistenced", "#!/bin/sh\n")
        self.program.chmod(0o755)
        self.boot_systemd()

    def put_on_bus(self, address, driver="nvidia"):
        device = f"sys/bus/pci/devices/{address}"
        self.node.write(f"{device}/vendor", "0x10de\n")
        self.node.write(f"{device}/class", "0x030200\n")
        if driver:
            (self.root / device / "driver").symlink_to(f"../../drivers/{driver}")

    def install(self, library, version, folder="usr/lib/x86_64-linux-gnu"):
        """Installs the file, and the link by which programs load it. It is a real library, since ldconfig skips other files."""
        file = self.node.write(f"{folder}/{library}.{version}", "")
        shutil.copy(LIBRARIES[library], file)
        self.link(f"{folder}/{library}.1", file.name)

    def link(self, path, target):
        link = self.root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)

    def cache_libraries(self):
        """Runs ldconfig, as a package's installation does. ldconfig needs root for its chroot()."""
        self.node.write("etc/ld.so.conf", "/usr/lib/x86_64-linux-gnu\n")
        become_root = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
        subprocess.run([*become_root, "/sbin/ldconfig", "-X", "-r", self.root], check=True, timeout=30)

    def boot_systemd(self, unit="nvidia-persistenced", socket_unit="", **changes):
        """Adds a service and its socket unit to those that `systemctl show` reports."""
        (self.root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
        told = {"Id": f"{unit}.service"} | SERVICE | changes
        self.node.write(f"units/{unit}.service", "".join(f"{key}={value}\n" for key, value in told.items()))
        self.node.write(f"units/{unit}.socket", f"ActiveState=inactive\nUnitFileState={socket_unit}\n")
        self.node.write("bin/systemctl", SYSTEMCTL.format(units=self.root / "units")).chmod(0o755)

    def put_daemon_in(self, group, line="0::"):
        """Puts the daemon into this control group."""
        self.node.write(f"proc/{os.getpid()}/cgroup", f"{line}{group}\n")

    def start_daemon(self, **how):
        if "modes" not in how:  # Holdfast's daemon; with modes it is NVIDIA's
            how = {"rows": [Row(A, minor=0), Row(B, minor=1), Row(C, minor=2)]} | how
        self.node.start_daemon(**how)
        self.write_pid(os.getpid())  # the scripted daemon runs in this process
        return self

    def write_pid(self, pid):
        return self.node.write("run/nvidia-persistenced/nvidia-persistenced.pid", f"{pid}\n")

    def run(self, *arguments, **how):
        return holdfast(self.root, "doctor", *arguments, PATH=f"{self.root}/bin:{os.environ['PATH']}", **how)

    def examine(self, *arguments, **how):
        """Returns the checks by id. First asserts what must be true of every document."""
        result = self.run("--json", *arguments, **how)
        document = result.json("doctor")
        assert result.err == ""
        assert result.status == document["problems"]
        checks = {check["id"]: check for check in document["checks"]}
        for check in checks.values():
            assert (RUNBOOKS / f"{check['runbook']}.md").exists(), check
        return checks

    def problems(self, *arguments, **how):
        return {name: check for name, check in self.examine(*arguments, **how).items() if check["verdict"] == "problem"}

    def only_problem(self, name):
        found = self.problems("--timeout=0.5")
        assert list(found) == [name], found
        return found[name]


@pytest.fixture
def patient(node):
    return Patient(node)


@pytest.fixture
def healthy(patient):
    return patient.start_daemon()


def evidence(check):
    return "\n".join(check["evidence"])


# ---- a healthy node ----------------------------------------------------------


def test_a_healthy_node_has_no_problem_and_no_unknown_check(healthy):
    assert {name: check["verdict"] for name, check in healthy.examine().items() if check["verdict"] != "ok"} == {}
    result = healthy.run()
    assert result.status == 0
    assert re.fullmatch(r"no problem found by (\d+) checks: \1 OK, 0 unknown\n", result.out)


def test_verbose_shows_the_checks_that_are_ok_with_their_evidence(healthy):
    out = healthy.run("--verbose").out
    for name, check in healthy.examine().items():
        assert f"OK      {name}: {check['title']}" in out
    assert "evidence systemctl show: LoadState=loaded UnitFileState=enabled" in out


class Opens:
    """Records which files in a folder are opened (inotify(7))."""

    IN_OPEN = 0x20

    def __init__(self, folder):
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._fd >= 0 and libc.inotify_add_watch(self._fd, os.fsencode(folder), self.IN_OPEN) >= 0

    def names(self):
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return set()
        return {match.decode() for match in re.findall(rb"[a-z][a-z0-9-]+(?=\0)", data)}

    def close(self):
        os.close(self._fd)


def test_doctor_opens_no_device_node(healthy):
    opens = Opens(healthy.root / "dev")
    try:
        assert healthy.problems() == {}
        assert not any(name.startswith("nvidia") for name in opens.names())
        (healthy.root / "dev/nvidia1").read_text()
        assert opens.names() == {"nvidia1"}
    finally:
        opens.close()


def test_every_probe_has_a_runbook_that_names_it():
    source = (TOP / "src/cli/doctor/doctor.c").read_text()
    probes = re.findall(r'^        \{"([a-z-]+)", "[^"]+", "([a-z-]+)",\s+probe_\w+\}', source, re.M)
    assert len(probes) == len(re.findall(r"probe_\w+\}", source)) >= 21
    index = (RUNBOOKS / "README.md").read_text()
    for probe, runbook in probes:
        text = (RUNBOOKS / f"{runbook}.md").read_text()
        assert re.search(rf"^\| \[{runbook}\]\({runbook}.md\) \| .*\b{probe}\b", index, re.M), f"{probe} is not in the index"
        assert f"**{probe}**" in text, f"{runbook} does not name {probe}"


def test_every_runbook_has_all_its_parts_and_is_in_the_index():
    index = (RUNBOOKS / "README.md").read_text()
    for file in RUNBOOKS.glob("*.md"):
        assert file.name == "README.md" or f"]({file.name})" in index
        for part in ("Symptom", "Why", "Check", "Cure", "Prevention") if file.name != "README.md" else ():
            assert re.search(rf"^## {part}\b", file.read_text(), re.M), f"{file.name} has no {part}"


# ---- the driver --------------------------------------------------------------


def test_no_gpu_on_the_bus_is_found(healthy):
    shutil.rmtree(healthy.root / "sys/bus/pci/devices")
    (healthy.root / "sys/bus/pci/devices").mkdir()
    check = healthy.only_problem("gpu-on-bus")
    assert f"GPU 0 {A}: not in" in evidence(check) and "rescan" in check["cure"]


def test_one_gpu_gone_from_the_bus_is_named(healthy):
    shutil.rmtree(healthy.root / f"sys/bus/pci/devices/{B}")
    assert healthy.only_problem("gpu-on-bus")["evidence"][0].startswith(f"GPU 1 {B}: not in")


def test_a_driver_that_is_not_loaded_is_found_and_the_driver_that_has_the_gpus_is_named(patient):
    shutil.rmtree(patient.root / "proc/driver")
    (patient.root / f"sys/bus/pci/devices/{A}/driver").unlink()
    (patient.root / f"sys/bus/pci/devices/{A}/driver").symlink_to("../../drivers/nouveau")
    check = patient.problems()["driver-loaded"]
    assert f"{A} is on the PCI bus, driven by nouveau" in evidence(check)
    assert check["cure"] == "modprobe -r nouveau && modprobe nvidia"


def test_a_kernel_without_the_module_is_found(patient):
    shutil.rmtree(patient.root / "proc/driver")
    assert "driver-module" not in patient.problems()
    patient.node.write(f"lib/modules/{platform.release()}/modules.dep", "kernel/a.ko: extra/nvidia.ko\n")
    check = patient.problems()["driver-module"]
    assert platform.release() in check["summary"] and "names no nvidia.ko" in evidence(check)
    assert check["runbook"] == "kernel-or-gpu-missing"


def test_a_gpu_without_a_driver_is_a_problem_but_one_with_another_driver_is_a_note(healthy):
    healthy.put_on_bus("0000:d0:00.0", driver="vfio-pci")
    check = healthy.examine()["driver-loaded"]
    assert check["verdict"] == "note" and "0000:d0:00.0 is on the PCI bus, driven by vfio-pci" in evidence(check)
    healthy.put_on_bus("0000:d1:00.0", driver=None)
    assert healthy.only_problem("driver-loaded")["cure"] == "echo 0000:d1:00.0 > /sys/bus/pci/drivers/nvidia/bind"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_of_another_version_is_found(healthy, library):
    healthy.install(library, "595.50.01")
    healthy.cache_libraries()
    check = healthy.only_problem("versions")
    assert check["evidence"] == [f"{healthy.root}/usr/lib/x86_64-linux-gnu/{library}.595.50.01"]
    assert "595.45.04" in check["summary"]


def test_a_library_is_found_through_debians_alternatives(healthy):
    """Debian's packages install absolute links. Below --root, these links belong to that root."""
    folder = "usr/lib/x86_64-linux-gnu/nvidia/current"
    healthy.install("libnvidia-ml.so", "595.50.01", folder)
    healthy.link("etc/alternatives/glx--libnvidia-ml.so.1", f"/{folder}/libnvidia-ml.so.1")
    healthy.link("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "/etc/alternatives/glx--libnvidia-ml.so.1")
    check = healthy.only_problem("versions")
    assert check["evidence"] == [f"{healthy.root}/{folder}/libnvidia-ml.so.595.50.01"]


def test_of_two_installed_libraries_doctor_checks_the_one_that_the_loader_chooses(healthy):
    healthy.install("libnvidia-ml.so", "570.10.01", "usr/lib")  # the loader searches this folder last
    healthy.cache_libraries()
    check = healthy.examine()["versions"]
    assert (check["verdict"], check["evidence"]) == ("ok", ["2 libraries of version 595.45.04"])


def test_an_old_library_that_no_link_points_to_is_no_mismatch(healthy):
    healthy.node.write("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.570.10.01", "")
    assert healthy.examine()["versions"]["verdict"] == "ok"


def test_without_libraries_or_the_loaders_cache_the_versions_are_unknown(healthy):
    for file in (healthy.root / "usr/lib/x86_64-linux-gnu").iterdir():
        file.unlink()
    healthy.cache_libraries()
    check = healthy.examine()["versions"]
    assert (check["verdict"], check["summary"]) == ("cannot-tell", "the loader knows no libnvidia-ml and no libnvidia-cfg")
    cache = healthy.root / "etc/ld.so.cache"
    cache.unlink()
    check = healthy.examine()["versions"]
    assert (check["verdict"], check["summary"]) == ("cannot-tell", f"ldconfig cannot read the loader's cache, {cache}")


# ---- nodes -------------------------------------------------------------------


@pytest.mark.parametrize("name, cure", [("nvidia1", "nvidia-modprobe -c 1"), ("nvidiactl", "nvidia-modprobe -c 255"),
                                        ("nvidia-uvm", "nvidia-modprobe -u")])
def test_a_missing_node_is_found_and_the_cure_creates_it(healthy, name, cure):
    (healthy.root / f"dev/{name}").unlink()
    check = healthy.only_problem("nodes")
    assert check["evidence"] == [f"{healthy.root}/dev/{name}: No such file or directory"] and check["cure"] == cure


def test_a_node_with_a_stricter_mode_than_the_modules_parameters_is_found(healthy):
    (healthy.root / "dev/nvidia2").chmod(0o600)
    check = healthy.only_problem("nodes")
    assert "dev/nvidia2 has mode 0600" in evidence(check) and "params says 0666" in evidence(check)
    assert check["cure"] == f"chmod 0666 {healthy.root}/dev/nvidia2"


def test_any_mode_is_right_if_the_driver_does_not_manage_the_nodes(healthy):
    (healthy.root / "dev/nvidia2").chmod(0o660)
    healthy.node.write("proc/driver/nvidia/params", "ModifyDeviceFiles: 0\nDeviceFileMode: 438\n")
    assert healthy.examine()["nodes"]["verdict"] == "ok"


# ---- the unit ----------------------------------------------------------------


@pytest.mark.parametrize("changes, words, cure", [
    ({"LoadState": "masked", "UnitFileState": "masked"}, "masked", "systemctl unmask nvidia-persistenced"),
    ({"LoadState": "bad-setting"}, "systemd rejects a line", "systemd-analyze verify nvidia-persistenced.service"),
    ({"UnitFileState": "disabled"}, "disabled", "systemctl enable --now nvidia-persistenced"),
])
def test_a_unit_that_cannot_start_is_found(healthy, changes, words, cure):
    healthy.boot_systemd(**changes)
    check = healthy.only_problem("unit")
    assert words in check["summary"] and cure in check["cure"] and "systemctl show: LoadState=" in evidence(check)


def test_a_missing_unit_is_a_problem_unless_a_daemon_runs_without_it(patient):
    patient.boot_systemd(LoadState="not-found", UnitFileState="", ExecStart="", FragmentPath="")
    assert "there is no unit" in patient.problems()["unit"]["summary"]
    patient.start_daemon()
    assert patient.examine()["unit"]["verdict"] == "note"


def test_a_disabled_service_with_an_enabled_socket_unit_is_ok(healthy):
    healthy.boot_systemd(UnitFileState="disabled", socket_unit="enabled")
    assert healthy.examine()["unit"]["verdict"] == "ok"


# ---- which unit is the daemon's


@pytest.mark.parametrize("line", ["0::", "1:name=systemd:"])
@pytest.mark.parametrize("unit, by_pid", [("holdfast", False), ("nvidia-persistenced@node", False), ("gpu-daemons", False),
                                          ("gpu-daemons", True)])
def test_doctor_checks_the_unit_that_the_daemon_runs_in(healthy, unit, by_pid, line):
    told = {"MainPID": os.getpid(), "ExecStart": "{ path=/opt/start ; argv[]=/opt/start ; status=0/0 }"} if by_pid else {}
    healthy.boot_systemd(unit, UnitFileState="disabled", **told)
    healthy.put_daemon_in(f"/system.slice/{unit}.service/part", line)
    check = healthy.problems()["unit"]
    assert f"{unit}.service is disabled" in check["summary"] and check["cure"] == f"systemctl enable --now {unit}", check


def test_doctor_ignores_a_unit_in_which_the_daemon_was_started_by_hand(healthy):
    healthy.boot_systemd("ssh", UnitFileState="disabled", MainPID="1", ExecStart="{ path=/usr/sbin/sshd ; status=0/0 }")
    healthy.put_daemon_in("/system.slice/ssh.service")
    assert healthy.examine()["unit"]["verdict"] == "ok"


@pytest.mark.parametrize("unit", ["holdfast", "holdfast@node", "nvidia-persistence"])
def test_without_a_daemon_doctor_checks_the_enabled_unit(patient, unit):
    patient.boot_systemd(UnitFileState="disabled", ActiveState="inactive")
    patient.boot_systemd(unit, ActiveState="failed", SubState="failed", Result="exit-code", ExecMainStatus="6")
    found = patient.problems()
    assert "unit" not in found
    assert f"-u {unit};" in found["unit-result"]["cure"] and found["unit-result"]["cure"].endswith(f"systemctl start {unit}")
    assert found["daemon"]["cure"] == f"systemctl enable --now {unit}"


def test_without_a_daemon_doctor_prefers_a_masked_unit_to_a_disabled_one(patient):
    patient.boot_systemd(LoadState="masked", UnitFileState="masked", ActiveState="inactive")
    patient.boot_systemd("holdfast", UnitFileState="disabled", ActiveState="inactive")
    assert "nvidia-persistenced.service" in patient.problems()["unit"]["summary"]


def test_a_missing_unit_is_reported_even_if_a_disabled_one_has_another_name(patient):
    patient.boot_systemd(LoadState="not-found", UnitFileState="", ExecStart="", FragmentPath="", ActiveState="inactive")
    patient.boot_systemd("holdfast", UnitFileState="disabled", ActiveState="inactive")
    assert "systemctl enable --now nvidia-persistenced" in patient.problems()["unit"]["cure"]


def test_doctor_ignores_a_unit_with_a_similar_name_that_starts_another_program(patient):
    patient.boot_systemd(UnitFileState="disabled", ActiveState="inactive")
    patient.boot_systemd("nvidia-persistence-mode", ActiveState="failed", ExecStart="{ path=/usr/bin/nvidia-smi ; status=1 }")
    assert patient.problems()["unit"]["cure"] == "systemctl enable --now nvidia-persistenced"


def test_a_missing_program_is_found_at_step_exec(patient):
    patient.program.unlink()
    patient.boot_systemd(ActiveState="failed", SubState="failed", Result="exit-code", ExecMainStatus="203")
    found = patient.problems()
    check = found["unit-exec"]
    assert "failed at step EXEC" in check["summary"] and check["runbook"] == "exec-failed"
    assert f"{patient.program}: No such file or directory" in evidence(check) and "status 203" in evidence(check)
    assert "unit-result" not in found


def test_for_a_forking_unit_the_exit_status_of_its_command_counts(patient):
    failed = SERVICE["ExecStart"].replace("status=0/0", "status=203")
    patient.boot_systemd(ActiveState="failed", Result="exit-code", ExecStart=failed)
    assert "failed at step EXEC" in patient.problems()["unit-exec"]["summary"]


def test_a_program_that_may_not_be_executed_is_found_before_it_fails(healthy):
    healthy.program.chmod(0o644)
    assert "Permission denied" in evidence(healthy.only_problem("unit-exec"))


@pytest.mark.parametrize("result, words", [("exit-code", "ended with an error"), ("start-limit-hit", "gave up"),
                                           ("watchdog", "did not report"), ("protocol", "Type=")])
def test_a_unit_that_failed_for_another_reason_is_found(patient, result, words):
    patient.boot_systemd(ActiveState="failed", SubState="failed", Result=result, ExecMainStatus="1")
    check = patient.problems()["unit-result"]
    assert result in check["summary"] and words in check["summary"]
    assert f"Result={result} ExecMainStatus=1" in evidence(check) and "journalctl" in check["cure"]


def test_the_daemons_last_messages_from_the_journal_are_quoted(patient):
    journalctl = patient.node.write("bin/journalctl", "#!/bin/sh\necho \"cannot open the pid file; asked: $*\"\n")
    journalctl.chmod(0o755)
    patient.boot_systemd(ActiveState="failed", SubState="failed", Result="exit-code", ExecMainStatus="1")
    text = evidence(patient.problems()["unit-result"])
    assert "journal: cannot open the pid file" in text and "_SYSTEMD_UNIT=nvidia-persistenced.service" in text
    assert "SYSLOG_IDENTIFIER=nvidia-persistenced" in text, "doctor also asks for systemd's own messages about the unit"
    journalctl.write_text("#!/bin/sh\necho no journal >&2\nexit 1\n")
    assert "journal" not in evidence(patient.problems()["unit-result"])


def test_with_an_infinite_timeout_doctor_waits_for_systemctl(healthy):
    assert healthy.examine("--timeout=infinity")["unit"]["verdict"] == "ok"


def test_without_systemd_the_checks_of_the_unit_are_unknown(healthy):
    shutil.rmtree(healthy.root / "run/systemd")
    checks = healthy.examine()
    for name in ("unit", "unit-exec", "unit-result"):
        assert checks[name]["verdict"] == "cannot-tell" and "systemd does not run here" in checks[name]["summary"]


def test_if_systemctl_fails_hangs_or_prints_garbage_the_unit_is_unknown(healthy):
    program = healthy.root / "bin/systemctl"
    for script, words in (("echo no bus >&2; exit 1", "no bus"), ("exec sleep 60", "timed out"), ("head -c 99999 /dev/zero", ""),
                          ("yes =", "")):
        program.write_text(f"#!/bin/sh\n{script}\n")
        check = healthy.examine("--timeout=1")["unit"]
        assert check["verdict"] == "cannot-tell" and words in check["summary"]


# ---- the runtime directory -----------------------------------------------------


@pytest.mark.parametrize("told", [{"User": "nobody", "RuntimeDirectory": ""},
                                  {"ExecStart": SERVICE["ExecStart"].replace("--verbose", "--user nobody --verbose")}])
def test_a_user_who_cannot_write_to_the_runtime_directory_is_found(patient, told):
    directory = patient.root / "run/nvidia-persistenced"
    directory.mkdir()
    patient.boot_systemd(**told)
    check = patient.problems()["runtime-directory"]
    assert "nobody, cannot write" in check["summary"] and "uid 0, gid 0, mode 0755" in evidence(check)
    assert check["cure"] == f"chown -R nobody {directory}"
    shutil.chown(directory, "nobody")
    assert "runtime-directory" not in patient.problems()


def test_a_pid_file_of_another_user_is_found_too(patient):
    shutil.chown(patient.write_pid(1).parent, "nobody")
    patient.boot_systemd(User="nobody", RuntimeDirectory="")
    assert "nvidia-persistenced.pid: uid 0" in evidence(patient.problems()["runtime-directory"])


def test_a_runtime_directory_that_the_daemons_user_cannot_create_is_found(patient):
    patient.boot_systemd(User="nobody", RuntimeDirectory="")
    assert "cannot create it" in patient.problems()["runtime-directory"]["summary"]
    patient.boot_systemd(User="nobody")
    assert "runtime-directory" not in patient.problems()


def test_with_runtimedirectory_the_directorys_owner_does_not_matter(patient):
    (patient.root / "run/nvidia-persistenced").mkdir()
    patient.boot_systemd(User="nobody")
    assert patient.examine()["runtime-directory"]["verdict"] == "ok"


def test_a_file_in_place_of_the_runtime_directory_is_found(patient):
    (patient.root / "run/nvidia-persistenced").write_text("")
    assert "is no directory" in patient.problems()["runtime-directory"]["summary"]



# ---- local changes to the unit

OURS = "man:nvidia-persistenced(1) man:holdfast(1)"


def test_a_unit_in_etc_that_hides_the_packages_unit_is_a_note(healthy):
    healthy.node.write("usr/lib/systemd/system/nvidia-persistenced.service", "[Service]\n")
    healthy.boot_systemd(FragmentPath="/etc/systemd/system/nvidia-persistenced.service")
    check = healthy.examine()["unit"]
    assert check["verdict"] == "note" and "hides the package's" in check["summary"], check
    # A revert disables the unit, so the cure must enable it again.
    assert "systemctl revert nvidia-persistenced; systemctl enable nvidia-persistenced;" in check["cure"]


@pytest.mark.parametrize("user, told", [("nvidia-persistenced", "nvidia-persistenced"), ("", "root"), ("root", "root")])
def test_a_drop_in_with_another_command_line_is_a_note_that_quotes_it_and_names_the_user(healthy, user, told):
    path = "/etc/systemd/system/nvidia-persistenced.service.d/override.conf"
    healthy.node.write(path[1:], "[Service]\nExecStart=\nExecStart=/usr/bin/nvidia-persistenced --user root\n")
    healthy.boot_systemd(DropInPaths=f"/a/limits.conf {path}", Documentation=OURS, User=user)
    check = healthy.examine()["unit"]
    assert check["verdict"] == "note" and f"as user {told}, and the unit's sandbox still applies" in check["summary"], check
    assert f"{path}: ExecStart=/usr/bin/nvidia-persistenced --user root" in evidence(check)


def test_a_command_of_the_unit_that_fails_is_named(patient):
    patient.boot_systemd(ActiveState="failed", SubState="failed", Result="exit-code", ExecStartPost=(
        "{ path=/opt/limits ; argv[]=/opt/limits 250 ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=9 ; "
        "code=exited ; status=4 }"))
    check = patient.problems("--timeout=0.5")["unit-result"]
    assert "one of its commands fails" in check["summary"] and "ExecStartPost=/opt/limits" in check["summary"], check


def test_a_unit_that_systemd_restarts_repeatedly_is_a_problem(patient):
    patient.boot_systemd(ActiveState="activating", SubState="start-pre", NRestarts="7")
    assert "7 times so far" in patient.problems("--timeout=0.5")["unit-result"]["summary"]


def test_uvm_state_that_would_block_an_unbind_is_a_note(patient):
    patient.start_daemon(rows=[Row(A, minor=0, uvm=2), Row(B, minor=1), Row(C, minor=2)])
    check = patient.examine()["unbind"]
    assert check["verdict"] == "note" and "UVM state" in check["summary"], check


@pytest.mark.parametrize("told", [{"DynamicUser": "yes", "User": "holder"}, {"ExecStart": SERVICE["ExecStart"].replace(
    "--verbose", "--user $DAEMON_USER")}])
def test_with_a_user_that_only_systemd_knows_the_runtime_directory_is_unknown(patient, told):
    patient.boot_systemd(**told)
    assert patient.examine()["runtime-directory"]["verdict"] == "cannot-tell"


def test_a_user_that_does_not_exist_is_found(patient):
    patient.boot_systemd(User="no-such-user")
    assert "there is no such user" in patient.problems()["runtime-directory"]["summary"]


# ---- the daemon and its socket -------------------------------------------------


def test_no_daemon_is_found(patient):
    found = patient.problems()
    assert set(found) == {"daemon"}
    assert evidence(found["daemon"]) == f"{patient.node.socket_path}: No such file or directory"
    assert found["daemon"]["cure"] == "systemctl enable --now nvidia-persistenced"


def test_a_stale_socket_is_found(patient):
    patient.node.socket_path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(patient.node.socket_path))
    found = patient.problems()
    assert set(found) == {"daemon", "socket"}
    assert "stale" in found["socket"]["summary"] and "Connection refused" in evidence(found["socket"])


def test_a_silent_daemon_is_found(patient):
    patient.start_daemon(silent=True)
    assert "did not answer within 0.5 s" in evidence(patient.only_problem("socket"))


def test_a_listener_that_does_not_speak_rpc_is_found(patient):
    patient.node.socket_path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(patient.node.socket_path))
        listener.listen()

        def greet():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 welcome to this mail server\r\n" * 8)
                connection.recv(4096)

        server = threading.Thread(target=greet)
        server.start()
        check = patient.only_problem("socket")
        server.join(timeout=10)
    assert "is not a persistence daemon" in evidence(check)


def test_a_socket_that_is_not_open_to_everybody_is_found(healthy):
    healthy.node.socket_path.chmod(0o770)
    check = healthy.only_problem("socket")
    assert "mode 0770" in evidence(check) and check["cure"] == f"chmod 0777 {healthy.node.socket_path}"


def test_a_runtime_directory_closed_to_others_is_found(healthy):
    healthy.node.socket_path.parent.chmod(0o750)
    assert healthy.only_problem("socket")["cure"] == f"chmod 0755 {healthy.node.socket_path.parent}"


def test_nvidias_daemon_is_a_note(patient):
    patient.start_daemon(modes={"0000:17:00": (0, 1), "0000:3a:00": (0, 1), "0000:ca:00": (0, 1)})
    check = patient.examine()["daemon-kind"]
    assert check["verdict"] == "note" and check["runbook"] == "migration-from-nvidia"
    assert patient.problems() == {}


def test_a_pid_file_with_a_pid_that_is_no_daemon_is_found(healthy):
    healthy.write_pid(1)
    check = healthy.only_problem("one-daemon")
    assert f"names pid 1, but pid {os.getpid()} listens at the socket" in evidence(check)


@pytest.mark.parametrize("before", ["another daemon", "none"])
@pytest.mark.holdfast_only("the command reads files below --root")
def test_a_daemon_that_is_started_during_the_check_is_no_second_one(world, before):
    """doctor asks the daemon, and then systemctl. Here systemctl waits until the test has started another daemon."""
    world.simulate(2)
    daemon = world.start() if before == "another daemon" else None
    asked, go = world.base / "asked", world.base / "go"
    (world.base / "bin").mkdir()
    systemctl = world.base / "bin/systemctl"
    systemctl.write_text(f"#!/bin/sh\n: >{asked}\nwhile [ ! -e {go} ]; do sleep 0.05; done\nexit 1\n")
    systemctl.chmod(0o755)
    (world.site.root / "run/systemd/system").mkdir(parents=True)
    with subprocess.Popen([PROGRAM, "--root", world.site.root, "doctor", "--json", "--timeout=30"], stdout=subprocess.PIPE,
                          env=environment(PATH=f"{world.base}/bin:{os.environ['PATH']}")) as doctor_process:
        wait_until(asked.exists, "doctor has asked the daemon, and asks systemctl", timeout=20)
        if daemon:
            daemon.stop()
        world.start()
        go.touch()
        document = json.loads(doctor_process.communicate(timeout=60)[0])
    verdicts = {check["id"]: check["verdict"] for check in document["checks"]}
    assert verdicts["one-daemon"] == ("ok" if daemon else "cannot-tell")
    assert verdicts["socket-inode"] == "ok"


def test_two_daemons_are_found(healthy):
    other = shutil.copy(shutil.which("sleep"), healthy.root / "nvidia-persistenced")
    with subprocess.Popen([other, "60"]) as daemon:
        try:
            # exec() sets the name that a second daemon would have
            deadline = time.monotonic() + 10
            while open(f"/proc/{daemon.pid}/comm", encoding="ascii").read() != "nvidia-persiste\n":
                assert time.monotonic() < deadline
            healthy.write_pid(daemon.pid)
            check = healthy.only_problem("one-daemon")
        finally:
            daemon.kill()
    assert f"two daemons run: pid {daemon.pid}" in check["summary"] and f"kill {daemon.pid}" in check["cure"]


@pytest.mark.parametrize("socket_unit, cure", [
    ("static", "systemctl stop nvidia-persistenced.socket; systemctl restart nvidia-persistenced"),
    ("", "systemctl restart nvidia-persistenced"),
])
def test_a_daemon_whose_socket_was_removed_is_found(healthy, socket_unit, cure):
    healthy.boot_systemd(socket_unit=socket_unit)
    healthy.node.socket_path.unlink()
    check = healthy.only_problem("socket-inode")
    assert check["cure"] == cure
    assert f"1 listener of {healthy.node.socket_path}, and none can be reached" in evidence(check)
    assert healthy.examine()["daemon"]["verdict"] == "cannot-tell"


def test_a_daemon_whose_socket_was_replaced_is_found(healthy):
    healthy.node.socket_path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as old:
        old.bind(str(healthy.node.socket_path))
        old.listen()
        healthy.node.socket_path.unlink()
        healthy.node.daemon.stop()
        healthy.start_daemon()
        check = healthy.only_problem("socket-inode")
    assert "2 listeners" in evidence(check) and "only one can be reached" in evidence(check)


OLD_SOCKET = 'mount --bind "$0" "$1" && echo mounted && exec cat'


@contextlib.contextmanager
def namespace(script, *arguments, how=("--mount",)):
    """Runs the script in a new mount namespace. The block begins when the script has printed "mounted"."""
    with subprocess.Popen(["unshare", *how, "sh", "-c", script, *arguments], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as container:
        try:
            assert container.stdout.readline() == "mounted\n"
            yield container
        finally:
            container.stdin.close()
            assert container.wait(timeout=10) == 0


@pytest.mark.parametrize("how, verdict", [(["--mount"], "problem"), (["--user", "--map-root-user", "--mount"], "note")],
                         ids=["of the host's users", "in a user namespace"])
@pytest.mark.parametrize("what", ["socket", "."])
def test_a_container_that_has_an_old_socket_mounted_is_found(healthy, what, how, verdict):
    """A bind mount keeps an inode: the old socket, or the folder that ExecStopPost= removes and the next daemon recreates."""
    if os.geteuid() != 0:
        pytest.skip("root is missing: the test creates a mount namespace")
    directory = healthy.node.socket_path.parent
    target = healthy.root / "container"
    if what == "socket":
        target.write_text("")
    else:
        target.mkdir()
    with namespace(OLD_SOCKET, directory / what, target, how=how) as container:
        assert healthy.problems() == {}
        healthy.node.daemon.stop()
        shutil.rmtree(directory)
        healthy.start_daemon()
        check = healthy.examine()["socket-inode"]
    assert check["verdict"] == verdict
    assert re.search(rf"pid {container.pid} \((cat|sh)\): /proc/{container.pid}/mountinfo: .*//deleted on .*/container", evidence(check))


FORGED_MOUNT = """
mount -t tmpfs none "$1" && mkdir -p "$1$0" && touch "$1$0/socket" "$1/target" &&
mount --bind "$1$0/socket" "$1/target" && rm "$1$0/socket" && echo mounted && exec cat
"""

FORGED_LISTENER = """
mount -t tmpfs none "$0" && exec "$2" -I -c '
import socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("mounted", flush=True)
    sys.stdin.read()' "$0/socket"
"""


@pytest.mark.parametrize("script", [FORGED_MOUNT, FORGED_LISTENER], ids=["an old mount", "a listener"])
def test_an_old_socket_that_a_user_has_forged_is_ignored(healthy, script):
    if os.geteuid() != 0:
        pytest.skip("root is missing: the test creates a mount namespace")
    (healthy.root / "forged").mkdir()
    with namespace(script, healthy.node.socket_path.parent, healthy.root / "forged", sys.executable):
        assert healthy.examine()["socket-inode"]["verdict"] == "ok"


@pytest.mark.parametrize("user, verdict", [(0, "problem"), (process.NOBODY, "ok")])
def test_a_listener_of_an_ordinary_user_at_the_same_path_is_ignored(healthy, user, verdict):
    """The listener's folder is bind-mounted over the socket's folder, on the same file system."""
    if os.geteuid() != 0:
        pytest.skip("root is missing: the test creates a mount namespace")
    other = healthy.root / "other"
    other.mkdir()
    other.chmod(0o777)
    script = FORGED_LISTENER.replace('mount -t tmpfs none "$0"', 'mount --bind "$1" "$0"').replace(
        'exec "$2"', f'exec setpriv --reuid={user} --clear-groups /usr/bin/python3')
    with namespace(script, healthy.node.socket_path.parent, other):
        assert healthy.examine()["socket-inode"]["verdict"] == verdict


# ---- GPUs --------------------------------------------------------------------


def test_persistence_that_a_client_switched_off_is_found_with_its_cause(patient):
    patient.start_daemon(rows=[Row(A), Row(B, RELEASED, wanted=0), Row(C)])
    check = patient.only_problem("persistence")
    assert evidence(check).startswith(f"GPU 1 {B}: switched off by a client") and "2027-01-15 08:00:00" in evidence(check)
    assert check["cure"] == "holdfast set on --gpu 1" and "1 of 3 GPUs" in check["summary"]


def test_a_gpu_that_is_being_unbound_was_not_switched_off_by_a_client(patient):
    """The kernel removes the link to the driver at once, and then waits for the GPU's users."""
    (patient.root / f"sys/bus/pci/devices/{B}/driver").unlink()
    patient.start_daemon(rows=[Row(A), Row(B, RELEASED, wanted=0), Row(C)])
    check = patient.only_problem("persistence")
    assert check["evidence"] == [f"GPU 1 {B}: released because it is being unbound, which waits until no process has it open"]
    assert check["cure"] == "holdfast clients --gpu 1"


def test_persistence_that_the_configuration_switches_off_is_found(patient):
    patient.node.write("etc/holdfast/holdfast.conf", f"[gpu *]\npersistence = on\n\n[gpu {B}]\npersistence = off\n")
    patient.start_daemon(rows=[Row(A, RELEASED, wanted=0), Row(B, RELEASED, wanted=0), Row(C)])
    first, second = patient.only_problem("persistence")["evidence"]
    assert "by a client" in first
    assert second == f"GPU 1 {B}: off by the configuration, {patient.root}/etc/holdfast/holdfast.conf"


def test_persistence_that_is_off_as_configured_is_a_note(patient):
    patient.node.write("etc/holdfast/holdfast.conf", f"[gpu {B}]\npersistence = off\n")
    patient.start_daemon(rows=[Row(A), Row(B, RELEASED, wanted=0, configured=0), Row(C)])
    check = patient.examine()["persistence"]
    assert (check["verdict"], check["cure"]) == ("note", None)
    assert check["summary"] == "persistence mode is off for 1 of 3 GPUs, as configured"
    assert "off by the configuration" in evidence(check)


def test_gpus_that_are_off_as_configured_are_not_counted_as_a_problem(patient):
    patient.node.write("etc/holdfast/holdfast.conf", f"[gpu {A}]\npersistence = off\n")
    patient.start_daemon(rows=[Row(A, RELEASED, wanted=0, configured=0), Row(B, RELEASED, wanted=0), Row(C)])
    check = patient.only_problem("persistence")
    assert check["summary"] == "persistence mode is off for 1 of 3 GPUs; 1 more is off as configured"
    assert [line.split()[1] for line in check["evidence"]] == ["1", "0"]
    assert check["cure"] == "holdfast set on --gpu 1"


def test_a_lease_is_found_and_the_cure_is_to_wait(patient):
    patient.start_daemon(rows=[Row(A), Row(B, RELEASED, leased=1), Row(C)])
    check = patient.only_problem("persistence")
    assert "released by a lease" in evidence(check) and check["cure"].startswith("holdfast wait")


def test_gpus_that_the_daemon_is_still_opening_are_a_note(patient):
    patient.start_daemon(rows=[Row(A), Row(B, OPENING), Row(C)])
    check = patient.examine()["persistence"]
    assert (check["verdict"], check["evidence"]) == ("note", ["2 of 3 GPUs held by the daemon"])
    assert "1 GPU is wanted, and not held yet" in check["summary"]


def test_persistence_that_is_off_in_nvidias_daemon_is_found(patient):
    patient.node.tear_down(B)  # otherwise doctor infers that the kernel flag keeps it
    patient.start_daemon(modes={"0000:17:00": (0, 1), "0000:3a:00": (0, 0), "0000:ca:00": (0, 1)})
    assert "off in NVIDIA's daemon" in evidence(patient.only_problem("persistence"))


def test_without_a_daemon_a_cold_gpu_has_persistence_off(patient):
    patient.node.add_gpu(B, 1)
    (patient.root / "dev/nvidia1").chmod(0o666)
    found = patient.problems()
    assert f"GPU 1 {B}: off: no daemon, and the kernel's flag is off" in evidence(found["persistence"])


def test_an_excluded_gpu_is_a_note(healthy):
    healthy.node.add_gpu(B, 1, excluded=True)
    check = healthy.examine()["excluded"]
    assert check["verdict"] == "note" and f"{B}/information: GPU Excluded: Yes" in evidence(check)
    assert healthy.problems() == {}


KERNEL_LOG = f"""6,100,1000000,-;usb 1-1: new device
 SUBSYSTEM=usb
3,101,2000000,-;NVRM: GPU {A}: RmInitAdapter failed! (0x11:0x22:3)
3,102,3000000,-;NVRM: GPU {B}: RmInitAdapter failed! (0x62:0x40:1860)
3,103,4000000,-;NVRM: GPU {B}: rm_init_adapter failed, device minor number 1
"""


def test_a_gpu_that_does_not_initialise_is_found_and_the_kernel_log_is_quoted(patient):
    patient.node.write("dev/kmsg", KERNEL_LOG)
    patient.start_daemon(rows=[Row(A), Row(B, FAILED, errno=5, nv_status=0x0f, failures=4, error="cannot open /dev/nvidia1"), Row(C)])
    check = patient.only_problem("initialisation")
    assert check["evidence"] == [f"GPU 1 {B}: cannot open /dev/nvidia1 (errno 5, NV_ERR_GPU_IS_LOST; 4 failed opens)",
                                 f"kernel log: NVRM: GPU {B}: RmInitAdapter failed! (0x62:0x40:1860)"]


def test_a_failed_close_is_not_reported_as_a_failed_initialisation(patient):
    """The GPU works, so doctor must not suggest a reset."""
    failure = {"errno": errno.ETIMEDOUT, "failures": 1, "error": "the keeper did not drop its copy of the GPU"}
    patient.start_daemon(rows=[Row(A), Row(B, HELD, **failure), Row(C)])
    assert patient.examine()["initialisation"]["verdict"] == "ok", "the GPU should be held, and it is"
    patient.node.daemon.rows[1] = Row(B, HELD, leased=1, wanted=0, **failure)
    check = patient.problems()["initialisation"]
    assert check["summary"] == "1 GPU cannot be released; the daemon goes on trying"
    assert check["evidence"] == [f"GPU 1 {B}: the keeper did not drop its copy of the GPU"]
    assert check["cure"] == "systemctl restart holdfast-keeper.service"


def test_the_kernel_log_shows_that_a_held_gpu_has_fallen_off_the_bus(patient):
    uptime_usec = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
    patient.node.write("dev/kmsg", f"3,9,{uptime_usec},-;NVRM: Xid (PCI:0000:3a:00): 79, GPU has fallen off the bus.\n")
    now_usec = int(time.time() * 1e6)
    patient.start_daemon(rows=[Row(A), Row(B, since=now_usec - 3600_000_000), Row(C)])
    check = patient.only_problem("initialisation")
    assert f"GPU 1 {B}: fell off the bus" in evidence(check) and "Xid (PCI:0000:3a:00): 79" in evidence(check)
    patient.node.daemon.rows[1] = Row(B, since=now_usec + 3600_000_000)  # opened again after a reset
    assert patient.problems() == {}


def test_a_gpu_whose_configuration_space_reads_as_ones_is_lost(healthy):
    (healthy.root / f"sys/bus/pci/devices/{C}/config").write_bytes(b"\xff" * 64)
    assert evidence(healthy.only_problem("initialisation")) == f"GPU 2 {C}: fell off the bus"
    (healthy.root / f"sys/bus/pci/devices/{C}/config").write_bytes(b"\xde\x10\x30\x23" + bytes(60))
    assert healthy.problems() == {}


def test_a_failure_in_nvidias_daemon_is_found(patient):
    patient.start_daemon(modes={"0000:17:00": (0, 1), "0000:3a:00": (3, 0), "0000:ca:00": (0, 1)})
    assert evidence(patient.problems()["initialisation"]).startswith(f"GPU 1 {B}: ")


def test_a_gpu_stuck_in_the_driver_is_found(patient):
    patient.start_daemon(rows=[Row(A), Row(B, OPENING, stuck=1), Row(C)])
    assert evidence(patient.only_problem("stuck")) == f"GPU 1 {B}: opening since 2027-01-15 08:00:00"


def test_an_nvlink_fabric_that_is_not_ready_is_found(patient):
    patient.start_daemon(rows=[Row(A), Row(B, uvm=1, uvm_text="register: NV_ERR_NVLINK_FABRIC_NOT_READY"), Row(C)])
    check = patient.only_problem("fabric")
    assert evidence(check) == f"GPU 1 {B}: register: NV_ERR_NVLINK_FABRIC_NOT_READY"
    assert check["cure"] == "systemctl restart nvidia-fabricmanager"


def test_other_holders_are_a_note_until_a_gpu_should_be_free(patient):
    patient.node.write("sys/module/nvidia_drm/parameters/modeset", "Y\n")
    patient.start_daemon(rows=[Row(A, legacy=YES), Row(B), Row(C)])
    check = patient.examine()["other-holder"]
    assert check["verdict"] == "note" and "nvidia-drm keeps every GPU initialised" in check["summary"]
    assert f"GPU 0 {A}: the driver says so" in evidence(check)
    assert patient.problems() == {}
    patient.node.daemon.rows[1] = Row(B, RELEASED, leased=1)
    assert "a released GPU is not free" in patient.problems()["other-holder"]["summary"]


def test_doctor_does_not_infer_the_kernel_flag_for_failed_and_released_gpus(patient):
    patient.node.tear_down(B)
    patient.node.tear_down(C)
    patient.start_daemon(rows=[Row(A), Row(B, FAILED, error="no power"), Row(C, RELEASED)])
    assert patient.examine()["other-holder"]["verdict"] == "ok"


def test_with_an_old_driver_a_daemon_that_does_not_learn_of_unbinds_is_a_note(patient):
    """A daemon that reads the kernel log learns of unbinds also with an old driver. The scripted daemon has this process's pid.
    """
    patient.start_daemon(rows=[Row(A), Row(B), Row(C)])
    assert patient.examine()["unbind"]["verdict"] == "ok"
    patient.node.load_driver("550.163.01")
    check = patient.examine()["unbind"]
    assert check["verdict"] == "note" and "driver 550.163.01" in evidence(check)
    assert check["cure"].startswith("holdfast release --gpu")
    log = patient.root / "dev/kmsg"
    log.write_text("")
    with log.open():
        assert patient.examine()["unbind"]["verdict"] == "ok"


def test_the_kernel_flag_is_a_note(patient):
    patient.start_daemon(rows=[Row(A), Row(B, legacy=YES), Row(C)])
    check = patient.examine()["other-holder"]
    assert (check["verdict"], check["evidence"]) == ("note", [f"GPU 1 {B}: the driver says so"])


@pytest.mark.parametrize("state, name", [(HELD, "held"), (RELEASED, "released")])
def test_an_unknown_kernel_flag_is_not_reported_as_off(patient, state, name):
    """A released GPU may have the flag if it is still initialised; otherwise the flag is off."""
    patient.start_daemon(rows=[Row(A, minor=0), Row(B, state, minor=1, legacy=UNKNOWN), Row(C, minor=2)])
    with opened(patient.node, 1):
        check = patient.examine()["other-holder"]
    assert (check["verdict"], check["evidence"]) == ("cannot-tell", [f"GPU 1 {B}: {name}, and its flag is not known"])
    patient.node.tear_down(B)
    assert patient.examine()["other-holder"]["verdict"] == ("ok" if state == RELEASED else "cannot-tell")


def test_without_a_daemon_the_kernel_flag_of_a_gpu_in_use_is_unknown(patient):
    for idle in (A, C):
        patient.node.tear_down(idle)
    assert patient.examine()["other-holder"]["verdict"] == "note", "GPU 1 is initialised although no process has it open"
    with opened(patient.node, 1):
        check = patient.examine()["other-holder"]
    assert (check["verdict"], evidence(check)) == ("cannot-tell", f"GPU 1 {B}: initialised, and its flag is not known")


def test_clients_are_a_note_until_the_gpu_should_be_free(patient):
    patient.start_daemon()
    with opened(patient.node, 1) as job:
        check = patient.examine()["reset"]
        assert (check["verdict"], check["evidence"]) == ("note", [f"GPU 1 {B}: cat (pid {job.pid}) has it open"])
        patient.node.daemon.rows[1] = Row(B, RELEASED, minor=1, leased=1)
        assert f"cat (pid {job.pid})" in evidence(patient.problems()["reset"])


# ---- the output --------------------------------------------------------------


def test_problems_come_first_each_with_evidence_cure_and_runbook(patient):
    patient.start_daemon(rows=[Row(A), Row(B, FAILED, error="no power"), Row(C, legacy=YES)])
    shutil.rmtree(patient.root / "run/systemd")
    (patient.root / "dev/nvidia2").unlink()
    result = patient.run(COLUMNS="80")
    lines = result.out.splitlines()
    assert result.status == 2 and lines[0].startswith("2 problems found by 23 checks")
    assert [line.split()[0] for line in lines if re.match("[A-Z]+ ", line)][:4] == ["PROBLEM", "PROBLEM", "NOTE", "NOTE"]
    assert "    cure     nvidia-modprobe -c 2" in lines
    assert any(line.startswith("UNKNOWN unit, unit-exec") for line in lines)
    assert f"(GPU 2 {C}: the driver says so)" in " ".join(result.out.split())
    assert "    runbook  docs/runbooks/nodes-missing.md" in lines
    assert max(map(len, lines)) <= 80 and len(lines) <= 24


def test_the_runbook_is_named_by_its_installed_path(patient):
    (patient.root / "dev/nvidia2").unlink()
    options = json.loads((BUILD / "meson-info/intro-buildoptions.json").read_text())
    prefix = next(option["value"] for option in options if option["name"] == "prefix")
    page = patient.node.write(f"{prefix}/share/doc/holdfast/runbooks/nodes-missing.md".lstrip("/"), "")
    assert f"    runbook  {page}" in patient.run(COLUMNS="80").out.splitlines()


def test_doctor_lists_eight_failures_and_counts_the_others(patient):
    addresses = [f"0000:{bus:02x}:00.0" for bus in range(1, 13)]
    for minor, address in enumerate(addresses):
        patient.put_on_bus(address)
    patient.start_daemon(rows=[Row(address, FAILED, error="no power") for address in addresses])
    check = patient.examine()["initialisation"]
    assert len(check["evidence"]) == 8 and check["evidence_total"] == 12
    assert "and 4 more" in patient.run().out


def test_escape_sequences_in_quoted_texts_do_not_reach_the_terminal(patient):
    patient.start_daemon(rows=[Row(A), Row(B, FAILED, error="\033[2Jgone"), Row(C)])
    patient.boot_systemd(ActiveState="failed", Result="\033]0;title\a")
    out = patient.run("--verbose").out
    assert "\033" not in out and "\a" not in out and "?[2Jgone" in out


@pytest.mark.parametrize("garbage", [b"", b"\n" * 300, b"\0\xff:;=/" * 3000, b"x" * 70000, b": : : : ; ; = = - - // \n" * 50],
                         ids=["empty", "lines", "binary", "long", "separators"])
def test_doctor_does_not_fail_on_files_full_of_garbage(healthy, garbage):
    for path in healthy.root.rglob("*"):
        if path.is_file() and not path.is_symlink() and "bin" not in path.parts[len(healthy.root.parts)]:
            path.write_bytes(garbage)
    healthy.node.write("dev/kmsg", "").write_bytes(garbage)
    healthy.node.write("etc/holdfast/holdfast.conf", "").write_bytes(garbage)
    healthy.examine()


def test_for_an_ordinary_user_checks_that_need_root_are_unknown(healthy):
    if os.geteuid() != 0:
        pytest.skip("root is missing: the test calls as another user")
    healthy.node.write("dev/kmsg", "")
    (healthy.root / "dev/kmsg").chmod(0o600)
    program = Path(shutil.copy(BUILD / "src/cli/holdfast", healthy.root))
    checks = healthy.examine(program=program, user=process.NOBODY)
    assert {name for name, check in checks.items() if check["verdict"] == "problem"} == set()
    assert checks["reset"]["verdict"] == "cannot-tell" and "run as root" in checks["reset"]["summary"]


def test_wrong_usage_and_lost_output_have_their_own_exit_status(patient):
    for arguments in (["--jsn"], ["extra"], ["--timeout", "soon"]):
        result = patient.run(*arguments)
        assert result.status == DOCTOR_FAILED and len(result.err.splitlines()) == 1
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert patient.run(stdout=full).status == DOCTOR_FAILED


def test_the_doctor_schema_rejects_a_problem_without_a_cure(healthy):
    jsonschema = pytest.importorskip("jsonschema")
    document = healthy.run("--json").json("doctor")
    document["checks"][0] |= {"verdict": "problem", "cure": None}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads((TOP / "docs/schemas/doctor.json").read_text()))


def test_the_help_and_the_manual_page_describe_doctor():
    text = holdfast(None, "doctor", "--help").out
    assert "125" in text and "Usage: holdfast doctor" in text and len(text.splitlines()) <= 48
    page = (TOP / "docs/man/holdfast.1.scd").read_text()
    assert "# DOCTOR" in page
    for option in re.findall(r"--[a-z-]+", text.split("Options:")[1]):
        assert f"*{option}*" in page, option


# ---- on the simulated driver ---------------------------------------------------


@pytest.fixture
def world(build):
    """A world with the kernel backend: with the nvidia-cfg backend there are no driver files for doctor to read."""
    with open_world(build) as world:
        yield world


def doctor(world, *arguments):
    result = holdfast(world.site.root, "doctor", "--json", *arguments)
    document = result.json("doctor")
    assert result.status == document["problems"], result.out
    return {check["id"]: check for check in document["checks"]}


def problems_of(world):
    return {name for name, check in doctor(world).items() if check["verdict"] == "problem"}


@pytest.mark.holdfast_only("the command reads files below --root")
def test_a_simulated_node_with_its_daemon_is_healthy(world):
    world.simulate(3)
    world.start()
    # The daemon asks for the kernel flags after the opens.
    wait_until(lambda: doctor(world)["other-holder"]["verdict"] == "ok", "the kernel flags are known")
    checks = doctor(world)
    assert {name: check for name, check in checks.items() if check["verdict"] in ("problem", "note")} == {}
    # Below --root, systemd does not run. The simulator has no libraries.
    assert {name for name, check in checks.items() if check["verdict"] == "cannot-tell"} <= {
        "unit", "unit-exec", "unit-result", "versions"}


@pytest.mark.holdfast_only("the command reads files below --root")
def test_without_the_daemon_a_simulated_node_has_problems_and_its_gpus_stay_cold(world):
    world.simulate(2)
    assert problems_of(world) == {"daemon", "persistence"}
    assert world.sim.journal("open", "opened", "initialised") == []


@pytest.mark.holdfast_only("the command reads files below --root")
def test_failing_excluded_and_lost_simulated_gpus_are_found(world):
    world.simulate(4, gpu1="fail_opens = all", gpu2="excluded = yes", gpu3="lost = yes")
    world.start()
    checks = doctor(world)
    assert checks["initialisation"]["verdict"] == "problem" and checks["excluded"]["verdict"] == "note"
    text = evidence(checks["initialisation"])
    assert world.gpus[1] in text and world.gpus[3] in text and "NV_ERR_GPU_IS_LOST" in text


@pytest.mark.holdfast_only("the command reads files below --root")
def test_a_stuck_simulated_gpu_is_found(world):
    world.simulate(2, gpu1="hang = open")
    world.start("--stuck-timeout=1")
    assert problems_of(world) == {"stuck"}
    world.sim.ctl("hang", gpu=1, on=False)
    assert holdfast(world.site.root, "wait", "--timeout=20").status == 0
    assert problems_of(world) == set()


@pytest.mark.holdfast_only("the command reads files below --root")
def test_a_late_simulated_fabric_is_found(world):
    world.simulate(2, gpu1="fabric_delay = 1min")
    world.start("--uvm-persistence-mode")
    deadline = time.monotonic() + 20
    while problems_of(world) != {"fabric"}:  # until the driver has refused the first registration
        assert time.monotonic() < deadline
    assert evidence(doctor(world)["fabric"]).startswith(f"GPU 1 {world.gpus[1]}: the NVLink fabric is not ready")


@pytest.mark.holdfast_only("the command reads files below --root")
def test_with_the_real_daemon_doctor_reports_what_switched_persistence_off(world):
    world.simulate(2)
    daemon = world.start("--no-persistence-mode")
    assert f"--no-persistence-mode (/proc/{daemon.pid}/cmdline)" in evidence(doctor(world)["persistence"])
    assert holdfast(world.site.root, "set", "on").status == 0
    assert problems_of(world) == set()
    assert holdfast(world.site.root, "set", "off", "--gpu=1").status == 0
    assert evidence(doctor(world)["persistence"]).startswith(f"GPU 1 {world.gpus[1]}: switched off by a client")


@pytest.mark.holdfast_only("the command reads files below --root")
def test_on_the_simulated_driver_doctor_says_that_a_gpu_is_being_unbound(world):
    """This driver continues to list such a GPU while it waits for its users."""
    world.simulate(2, "[driver]\nversion = 550.163.01\n")
    daemon = world.start()
    address = world.gpus[1]
    with world.sim.open_gpu(address), socket.socket(socket.AF_UNIX) as shell:
        shell.connect(str(world.sim.socket_path))
        shell.sendall(json.dumps({"verb": "unbind", "gpu": address}).encode() + b"\n")
        wait_until(lambda: daemon.get(address) == (rpc.SUCCESS, rpc.DISABLED), "the daemon has released the GPU")
        check = doctor(world)["persistence"]
    assert evidence(check).startswith(f"GPU 1 {address}: released because it is being unbound"), check
    assert check["cure"] == "holdfast clients --gpu 1"


@pytest.mark.holdfast_only("the command reads files below --root")
def test_doctor_finds_the_stale_socket_of_a_killed_daemon(world):
    world.simulate(2)
    daemon = world.start()
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait_exit(10)
    assert {"daemon", "socket"} <= problems_of(world)
