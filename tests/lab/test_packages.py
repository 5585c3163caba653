# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The Debian packages on a node: installed, upgraded, downgraded, removed, purged. No upgrade tears a GPU down or refuses a
client, and a purge leaves only the user behind."""

import contextlib
import re
import shutil
import subprocess

import pytest

from harness import events
from lab.lab import TOP
from lab.packages import FOLDER, install, remove

pytestmark = pytest.mark.each_debian

OURS = ("holdfast", "holdfast-nvidia-persistenced")
UNIT = "nvidia-persistenced.service"
PROGRAM = "/usr/libexec/holdfast/nvidia-persistenced"

# Connects as fast as possible until its standard input ends; then prints how often it did, and how often that failed.
CLIENT = """
import select, socket, sys
tries = failures = 0
while not select.select([sys.stdin], [], [], 0)[0] or tries == 0:
    tries += 1
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect("/run/nvidia-persistenced/socket")
    except OSError as error:
        failures += 1
        print(error, file=sys.stderr)
    if tries == 1:
        print("began", flush=True)
print(tries, failures)
"""


@pytest.fixture
def holder(bare_node, packages):
    """A node with two GPUs that the packages' daemon holds."""
    bare_node.simulate()
    install(bare_node, *map(packages.file, OURS))
    return bare_node


def teardowns(node):
    return sum(gpu["teardowns"] for gpu in node.gpus.status()["gpus"])


def show(node, unit, name):
    return node.exec("systemctl", "show", f"--property={name}", "--value", unit).strip()


def files(node):
    """Returns all files on the node's disk, without the records of dpkg and systemd."""
    own = ("/var/lib/dpkg", "/var/log", "/var/cache", "/var/lib/apt", "/var/lib/systemd", FOLDER)
    prune = " -o ".join(f"-path {path}" for path in own)
    return set(node.exec(f"find / -xdev \\( {prune} \\) -prune -o -print").splitlines())


@contextlib.contextmanager
def connecting(node):
    """A context manager: a client connects repeatedly, and no connection may fail."""
    child = subprocess.Popen(node.command("python3", "-c", CLIENT), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    out, errors = events.Lines("the client", child.stdout), events.Lines("its errors", child.stderr)
    try:
        out.wait_for("^began$", timeout=20)
        yield
        child.stdin.close()
        tries, failures = out.wait_for(r"^(\d+) (\d+)$", timeout=20).groups()
        assert int(failures) == 0 and int(tries) > 1, errors.text()
    finally:
        child.stdin.close()
        child.wait(timeout=20)  # it ends by itself: nobody would reap what a killed nsenter leaves behind


# ---- installing ----------------------------------------------------------------


def test_after_the_installation_the_daemon_runs_and_holds_every_gpu(holder):
    assert holder.exec("systemctl", "is-active", UNIT) == "active\n"
    assert holder.exec("systemctl", "is-enabled", UNIT) == "enabled\n"
    assert holder.gpus.users() == [1, 1]
    assert holder.exec("which", "nvidia-persistenced") == "/usr/bin/nvidia-persistenced\n"
    assert holder.exec("ps", "-o", "user:32=", "-C", "nvidia-persiste").split() == ["nvidia-persistenced"] * 2, "and its keeper"
    assert "OK" in holder.exec("holdfast", "check")
    for page in ("nvidia-persistenced.1.gz", "holdfast.1.gz"):
        assert holder.exec("zcat", f"/usr/share/man/man1/{page}").startswith("'\\\" t\n")
    folders = "/etc/holdfast", "/etc/holdfast/hooks.d"
    assert holder.exec("stat", "--format=%U:%G %a", *folders) == "root:root 755\n" * 2, "empty, for the administrator's files"
    holder.reboot()
    assert holder.gpus.users() == [1, 1]


def test_the_package_holdfast_alone_starts_nothing_by_itself(bare_node, packages):
    bare_node.simulate()
    install(bare_node, packages.file("holdfast"))
    assert show(bare_node, "holdfast.service", "ActiveState") == "inactive" and bare_node.gpus.users() == [0, 0]
    bare_node.exec("systemctl", "enable", "--now", "holdfast")
    assert bare_node.gpus.users() == [1, 1]
    install(bare_node, packages.newer("holdfast"))
    assert bare_node.exec(f"readlink /proc/{show(bare_node, 'holdfast.service', 'MainPID')}/exe") == f"{PROGRAM}\n"
    bare_node.gpus.wait_users(1, 1)
    assert teardowns(bare_node) == 0
    remove(bare_node, "holdfast")
    bare_node.gpus.wait_released()
    remove(bare_node, "holdfast", purge=True)
    assert bare_node.exec("find", "/etc/systemd", "-name", "holdfast*") == ""


def test_holdfasts_own_unit_replaces_nvidias_daemon_now_and_at_a_boot_with_both_enabled(bare_node, packages):
    node = bare_node.simulate()
    install(node, packages.drivers("nvidia-persistenced"))
    install(node, packages.file("holdfast"))
    assert show(node, UNIT, "ActiveState") == "active"

    def assert_ours():
        assert "OK" in node.exec("holdfast", "check"), "NVIDIA's unit removes the socket's folder when it stops"
        assert (show(node, "holdfast.service", "ActiveState"), show(node, UNIT, "ActiveState")) == ("active", "inactive")

    node.exec("systemctl", "enable", "--now", "holdfast")
    assert_ours()
    node.reboot()
    assert show(node, UNIT, "UnitFileState") == "enabled"
    assert_ours()
    assert "ordering cycle" not in node.journal()

    # As a driver's udev rule does.
    node.exec("systemctl", "start", UNIT)
    assert show(node, "holdfast.service", "ActiveState") == "inactive"
    node.exec("systemctl", "mask", "--now", UNIT)
    node.exec("systemctl", "start", "holdfast")
    assert node.try_exec("systemctl", "start", UNIT).status != 0
    assert_ours()


# ---- another version -----------------------------------------------------------


def replace(node, files):
    """Installs other versions. The daemon is restarted once, without a teardown and without a failed connection."""
    before = show(node, UNIT, "MainPID")
    inode = node.exec("stat", "--format=%i", "/run/nvidia-persistenced/socket")
    starts = len(re.findall(r"^Started \(", node.journal(unit=UNIT), re.M))
    with connecting(node):
        install(node, *files)
    assert show(node, UNIT, "MainPID") != before
    assert node.exec(f"readlink /proc/{show(node, UNIT, 'MainPID')}/exe") == f"{PROGRAM}\n", "it runs the new program"
    assert len(re.findall(r"^Started \(", node.journal(unit=UNIT), re.M)) == starts + 1
    assert node.exec("stat", "--format=%i", "/run/nvidia-persistenced/socket") == inode
    node.gpus.wait_users(1, 1)
    assert teardowns(node) == 0
    assert "OK" in node.exec("holdfast", "check")


def test_upgrades_and_downgrades_tear_no_gpu_down_and_refuse_no_client(holder, packages):
    replace(holder, [packages.newer(name) for name in OURS])
    replace(holder, [packages.file(name) for name in OURS])


def test_an_upgrade_restarts_the_settings_service_which_does_not_repeat_hooks(holder, packages):
    settings = "holdfast-settings.service"
    holder.exec("mkdir", "-p", "/etc/holdfast/hooks.d")
    holder.write("/etc/holdfast/hooks.d/10-say", "#!/bin/sh\necho \"hook: $EVENT of $GPU_INDEX\"\n")
    holder.exec("chmod", "755", "/etc/holdfast/hooks.d/10-say")
    holder.exec("systemctl", "enable", "--now", settings)

    def said():
        return sorted(re.findall(r"hook: .*", holder.journal(unit=settings)))

    def is_done():
        gpus = holder.try_exec("holdfast", "settings", "--json").json()["gpus"]
        return len(gpus) == 2 and all(gpu.get("applied") and not gpu.get("busy") for gpu in gpus)

    events.wait_until(is_done, "nothing left to do", timeout=30)
    assert said() == ["hook: held of 0", "hook: held of 1"]
    before = show(holder, settings, "MainPID")
    told = install(holder, *[packages.newer(name) for name in OURS])
    assert f"{settings} was restarted" in told, told
    assert show(holder, settings, "MainPID") != before
    assert holder.exec(f"readlink /proc/{show(holder, settings, 'MainPID')}/exe") == "/usr/bin/holdfast\n"
    events.wait_until(is_done, "nothing left to do", timeout=30)
    assert said() == ["hook: held of 0", "hook: held of 1"]
    holder.gpus.wait_users(1, 1)
    assert teardowns(holder) == 0


def test_an_upgrade_leaves_a_stopped_or_disabled_unit_as_it_is(holder, packages):
    holder.exec("systemctl", "disable", "--now", UNIT)
    install(holder, *[packages.newer(name) for name in OURS])
    assert holder.try_exec("systemctl", "is-enabled", UNIT).out == "disabled\n"
    holder.gpus.wait_released()


OWN_UNITS = {
    "forks": "Type=forking\nExecStart=/usr/bin/nvidia-persistenced --user nvidia-persistenced",
    "forks with a pid file": "Type=forking\nPIDFile=/run/nvidia-persistenced/nvidia-persistenced.pid\nRestart=always\n"
                             "ExecStart=/usr/bin/nvidia-persistenced --verbose\n"
                             "ExecStopPost=/bin/rm -rf /run/nvidia-persistenced",
    "notifies": f"Type=notify\nUser=nvidia-persistenced\nRuntimeDirectory=nvidia-persistenced\nExecStart={PROGRAM}",
    "restarts as ours": f"Type=notify\nUser=nvidia-persistenced\nRuntimeDirectory=nvidia-persistenced\n"
                        f"RuntimeDirectoryPreserve=restart\nRestartKillSignal=SIGUSR1\nExecStart={PROGRAM}",
}


@pytest.mark.parametrize("text", OWN_UNITS.values(), ids=OWN_UNITS)
def test_an_upgrade_with_an_administrators_unit_tears_no_gpu_down(holder, packages, text):
    """The administrator's unit hides ours. If a restart would release the GPUs, the package leaves it and says so."""
    holder.write(f"/etc/systemd/system/{UNIT}", f"[Unit]\nDescription=The administrator's\n[Service]\n{text}\n"
                                                "[Install]\nWantedBy=multi-user.target\n")
    holder.exec("systemctl", "daemon-reload")
    holder.exec("systemctl", "restart", UNIT)
    before, torn_down = show(holder, UNIT, "MainPID"), teardowns(holder)
    for file in packages.newer, packages.file:
        said = install(holder, *map(file, OURS))
        holder.gpus.wait_users(1, 1)
        assert teardowns(holder) == torn_down
        assert "OK" in holder.exec("holdfast", "check")
        assert show(holder, UNIT, "FragmentPath") == f"/etc/systemd/system/{UNIT}"
        if "RestartKillSignal=SIGUSR1" in text:
            assert show(holder, UNIT, "MainPID") != before
            before = show(holder, UNIT, "MainPID")
        else:
            assert f"{UNIT} still runs the previous version" in said, said
            assert show(holder, UNIT, "MainPID") == before


# ---- removing ------------------------------------------------------------------


def test_a_purge_leaves_only_the_user(bare_node, packages):
    bare_node.simulate()
    before = files(bare_node)
    install(bare_node, *map(packages.file, OURS))
    remove(bare_node, *OURS)
    bare_node.gpus.wait_released()
    assert show(bare_node, UNIT, "LoadState") == "not-found"
    assert bare_node.try_exec("test", "-e", "/run/nvidia-persistenced").status == 1
    remove(bare_node, *OURS, purge=True)
    left = {path for path in files(bare_node) - before if not re.match(r"/etc/(passwd|group|g?shadow)-", path)}
    assert left == set()
    assert "nvidia-persistenced" in bare_node.exec("getent", "passwd", "nvidia-persistenced")
    assert bare_node.exec("systemctl", "--failed", "--no-legend") == ""


def test_holdfasts_own_unit_can_be_used_after_the_removal_of_holdfast_nvidia_persistenced(holder):
    remove(holder, "holdfast-nvidia-persistenced")
    assert show(holder, UNIT, "LoadState") == "not-found"
    holder.gpus.wait_released()
    holder.exec("systemctl", "enable", "--now", "holdfast")
    assert holder.gpus.users() == [1, 1]


def test_nvidias_package_replaces_holdfast_nvidia_persistenced_and_is_replaced_by_it_again(holder, packages, lab):
    theirs = packages.drivers("nvidia-persistenced", fields="")
    assert "holdfast-nvidia-persistenced" in install(holder, theirs)
    assert holder.exec(f"readlink /proc/{show(holder, UNIT, 'MainPID')}/exe") == "/usr/bin/nvidia-persistenced\n"
    holder.gpus.wait_users(1, 1)
    install(holder, packages.file("holdfast-nvidia-persistenced"))
    assert holder.exec(f"readlink /proc/{show(holder, UNIT, 'MainPID')}/exe") == f"{PROGRAM}\n"
    holder.gpus.wait_users(1, 1)


# ---- the packages' own tests ----------------------------------------------------


def test_the_packages_autopkgtests_pass_on_a_node(bare_node, packages, lab, tmp_path):
    tree = tmp_path / "tree"  # without debian/control autopkgtest builds nothing, so the node needs no dpkg-dev
    shutil.copytree(TOP / "packaging/debian/tests", tree / "debian/tests")
    command = [*lab.prefix, "autopkgtest", "--no-built-binaries", *packages.binaries, tree, "--", "ssh",
               "--hostname", str(bare_node.address), "--login", "root", "--identity", lab.key,
               "--capability", "isolation-container", "--capability", "isolation-machine"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    assert re.findall(r"^(\w+) +PASS$", done.stdout + done.stderr, re.M)[-2:] == ["service", "simulated"]
