# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Units, init scripts, the generator and packaging/install, as far as tests without a service manager can check them.

tests/lab tests them on real nodes.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.holdfast_only("it tests our own files")

TOP = Path(__file__).resolve().parent.parent.parent
INSTALL = TOP / "packaging/install"
DAEMON_UNITS = ("holdfast.service", "nvidia-persistenced.service")
UNITS = (*DAEMON_UNITS, "holdfast.socket", "nvidia-persistenced.socket", "holdfast-metrics.service",
         "holdfast-metrics.timer", "holdfast-settings.service")
# The files of systemd-sysusers. An uninstall does not remove the user, as packages do not either.
ACCOUNTS = {"etc/.pwd.lock", "etc/group", "etc/gshadow", "etc/passwd", "etc/passwd-", "etc/shadow"}


def need(tool):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is missing (scripts/setup test installs it)")
    return tool


def need_root():
    if os.geteuid() != 0:
        pytest.skip("root is missing: packaging/install needs it")


def test_setup_installs_every_build_dependency_of_the_debian_package():
    control = (TOP / "packaging/debian/control").read_text()
    needed = re.search(r"^Build-Depends:((?:.*,\n)*.*\n)", control, re.M)[1].split(",")
    setup = (TOP / "scripts/setup").read_text()
    offered = {name for names in re.findall(r"^(?:build|deb) +(\S+)", setup, re.M) for name in names.split("|")}
    for alternatives in needed:
        names = {re.sub(r"[(<].*", "", name).strip() for name in alternatives.split("|")}
        if not any(name.startswith(("debhelper-compat", "dh-sequence-")) for name in names):  # debhelper provides them
            assert names & offered, f"neither set of scripts/setup, build or deb, has {alternatives.strip()}"


def installed_sets(target, recipe):
    """The sets of packages that a target of the Makefile installs, itself or in the script of its name."""
    script = TOP / "scripts" / target
    texts = recipe, script.read_text() if f"@scripts/{target} " in recipe else ""
    found = [re.findall(r"^\s*@?scripts/setup ((?!-)[a-z -]+)", text, re.M) for text in texts]
    return {name for lines in found for names in lines for name in names.split()}


def test_contributing_names_the_sets_of_packages_that_each_target_installs():
    recipes = dict(re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)*)", (TOP / "Makefile").read_text(), re.M))
    rows = dict(re.findall(r"^\| `make ([a-z-]+)` \| ([^|]*) \|", (TOP / "CONTRIBUTING.md").read_text(), re.M))
    named = {target: set(re.findall(r"`([a-z-]+)`", text)) for target, text in rows.items()}
    named["lab-fleet"] |= named["lab"]  # "the same, ..."
    named["setup"] = {name for sets in named.values() for name in sets}  # "all sets"
    real = {target: installed_sets(target, recipe) for target, recipe in recipes.items() if target in rows}
    real["lab-fleet"] |= real["lab"]  # it runs scripts/lab
    assert len(named) > 10 and named == real


def run(*command, **how):
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, check=False, **how)


def install(build, root, *options, init="systemd", **how):
    return run(INSTALL, f"--build={build}", f"--root={root}", f"--init={init}", *options, **how)


def files(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


@pytest.fixture
def root(tmp_path):
    need_root()
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def image(build, tmp_path_factory):
    """A folder with an installation, shared by the tests of this file."""
    need_root()
    need("systemctl")
    folder = tmp_path_factory.mktemp("image")
    done = install(build, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def installed(root, image):
    """A copy of that installation, which the test may change."""
    shutil.copytree(image, root, symlinks=True, dirs_exist_ok=True)
    return root


def find(root, name):
    (found,) = [path for path in root.rglob(name) if "takeover" not in path.parts and ".wants" not in path.parent.name]
    return found


def units_here(root, folder):
    """Copies of the units with the programs' paths below the root, since systemd-analyze looks for them on this machine."""
    folder.mkdir()
    for name in UNITS:
        text = find(root, name).read_text()
        (folder / name).write_text(re.sub(r"^(Exec\w+=[-+@]*)(?=/\S+/(nvidia-persistenced|holdfast|release-for-driver) )", rf"\g<1>{root}",
                                          text, flags=re.MULTILINE))
    return [folder / name for name in UNITS]


# ---- units


def test_systemd_finds_nothing_wrong_with_the_units(installed, tmp_path):
    done = run(need("systemd-analyze"), "verify", "--man=no", *units_here(installed, tmp_path / "units"))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_analyze_finds_a_missing_program(installed, tmp_path):
    units = units_here(installed, tmp_path / "units")
    (find(installed, "bin") / "holdfast").unlink()
    done = run(need("systemd-analyze"), "verify", "--man=no", *units)
    assert done.returncode != 0
    assert "is not executable" in done.stderr


def test_the_unit_template_is_valid(installed, tmp_path):
    text = find(installed, "nvidia-persistenced.service.template").read_text()
    assert "__USER__" in text
    unit = tmp_path / "nvidia-persistenced.service"
    unit.write_text(text.replace("__USER__", "root").replace("/usr/bin/nvidia-persistenced", "/bin/true"))
    done = run(need("systemd-analyze"), "verify", "--man=no", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", DAEMON_UNITS)
def test_the_exposure_level_of_the_daemons_unit_is_at_most_0_6(installed, name):
    done = run(need("systemd-analyze"), "security", "--offline=true", "--threshold=6", find(installed, name))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("release", "hides"), [
    ("4.18.0-553.el8_10.x86_64", False),
    ("5.15.0-generic", False),
    ("6.1.0-18-amd64", False),
    ("6.4-rc1", False),
    ("6.5.0", True),
    ("6.18.1+deb13-amd64", True),
    ("7.0.0", True),
])
def test_the_units_hide_other_processes_except_on_kernels_before_6_5(tmp_path, release, hides):
    drop_ins = generate(tmp_path, uname=release)
    assert set(drop_ins) == (set() if hides else {(unit, "60-holdfast-kernel.conf") for unit in DAEMON_UNITS})
    assert all("\n[Service]\nProtectProc=default\n" in text for text in drop_ins.values())


# ---- the generator


def generate(folder, drop_ins=None, ours=True, uname="6.18.1", systemd="252"):
    """Runs the generator on a tree with our units. Returns {(unit, file name): text} of the drop-ins that it writes.

    drop_ins: the administrator's drop-ins of nvidia-persistenced.service. ours=False: the units are not ours.
    """
    tools = folder / "bin"
    units = folder / "root/usr/lib/systemd/system"
    for path in tools, units, folder / "root/etc/systemd/system/nvidia-persistenced.service.d", folder / "generated":
        path.mkdir(parents=True)
    for name, text in ("uname", uname), ("systemctl", f"'systemd {systemd} ({systemd}.1-1)'"):
        (tools / name).write_text(f"#!/bin/sh\necho {text}\n")
        (tools / name).chmod(0o755)
    for name in DAEMON_UNITS:
        text = "[Unit]\nDocumentation=man:holdfast(1)\n" if ours else ""
        (units / name).write_text(f"{text}[Service]\nType=notify\nExecStartPre=-+/ours --make-nodes\nUser=somebody\n")
    for name, text in (drop_ins or {}).items():
        (folder / "root/etc/systemd/system/nvidia-persistenced.service.d" / name).write_text(text)
    done = run(TOP / "packaging/systemd/holdfast-generator", *[folder / "generated"] * 3,
               env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(folder / "root")})
    assert (done.returncode, done.stderr) == (0, "")
    written = (folder / "generated").glob("*/*.conf")
    return {(path.parent.name.removesuffix(".d"), path.name): path.read_text() for path in written}


def commands(generated):
    """The lines of the drop-in that makes the administrator's commands run as root."""
    text = generated.get(("nvidia-persistenced.service", "~holdfast-commands.conf"), "")
    return [line for line in text.splitlines() if line.startswith("Exec")]


def test_commands_of_drop_ins_run_as_root_and_the_units_own_stay_unchanged(tmp_path):
    generated = generate(tmp_path, {"b.conf": "[Service]\nExecStartPre=-/b 1 \\\n  # no part of it\n  2\nExecStopPost=/c\n",
                                    "a.conf": "# words\n[Service]\nExecStartPre = @/a a\nExecStartPre=+/root already\n"})
    assert commands(generated) == [
        "ExecStartPre=", "ExecStartPre=-+/ours --make-nodes", "ExecStartPre=+@/a a", "ExecStartPre=+/root already",
        "ExecStartPre=+-/b 1    2", "ExecStopPost=", "ExecStopPost=+/c"]
    assert "etc/systemd/system/nvidia-persistenced.service.d/b.conf\n" in \
        generated["nvidia-persistenced.service", "~holdfast-commands.conf"]
    assert "DevicePolicy=auto\n" in generated["nvidia-persistenced.service", "60-holdfast-commands.conf"]
    assert not [name for unit, name in generated if unit == "holdfast.service"]


@pytest.mark.parametrize("text", [
    "[Service]\nExecStart=\nExecStart=/usr/bin/nvidia-persistenced --user x\nLimitNOFILE=4096\n",
    "[Service]\nExecStartPost=/a\nExecStartPost=\n",
    "[Service]\nExecStartPost=/a\nUser=x\n",
    "[Service]\nExecStartPost=/a\nDynamicUser=yes\n",
    "[Service]\nExecStartPost=+/a\n",
    "[Unit]\nExecStartPost=/a\n",
], ids=["no command", "emptied", "a user", "a dynamic user", "root already", "another section"])
def test_drop_ins_without_own_commands_cause_no_command_as_root(tmp_path, text):
    assert not commands(generate(tmp_path, {"override.conf": text}))


def test_the_generator_ignores_units_that_are_not_ours(tmp_path):
    assert not generate(tmp_path, {"override.conf": "[Service]\nExecStartPost=/a\n"}, ours=False, uname="5.15.0", systemd="257")


@pytest.mark.parametrize(("text", "name", "line"), [
    ("Type=forking", "60-holdfast-type.conf", "NotifyAccess=none"),
    ("User=root", "60-holdfast-root.conf", "SystemCallFilter=@setuid capset chown fchown"),
    ("User=", "60-holdfast-root.conf", "SystemCallFilter=@setuid capset chown fchown"),
])
def test_drop_ins_that_change_the_type_or_user_get_the_settings_that_these_need(tmp_path, text, name, line):
    generated = generate(tmp_path, {"override.conf": f"[Service]\n{text}\n"})
    assert set(generated) == {("nvidia-persistenced.service", name)}
    assert line in generated["nvidia-persistenced.service", name].splitlines()


@pytest.mark.parametrize(("systemd", "grows"), [("252", False), ("253.4", False), ("254", True), ("257", True)])
def test_restart_delays_grow_if_systemd_supports_it(tmp_path, systemd, grows):
    generated = generate(tmp_path, systemd=systemd)
    assert bool(generated) == grows
    for text in generated.values():
        assert {"RestartSteps=6", "RestartMaxDelaySec=20s", "RestartMode=direct"} <= set(text.splitlines())


def test_apparmor_parser_accepts_the_profile(installed):
    done = run(need("apparmor_parser"), "-QTK", find(installed, "holdfast-nvidia-persistenced"))
    assert done.returncode == 0, done.stderr


# ---- packaging/install


def test_an_install_creates_the_user_and_enables_the_service(installed):
    users = (installed / "etc/passwd").read_text()
    assert re.search(r"^nvidia-persistenced:.*:/:/usr/sbin/nologin$", users, re.MULTILINE), users
    wants = installed / "etc/systemd/system/multi-user.target.wants"
    assert [link.name for link in wants.iterdir()] == ["nvidia-persistenced.service"]
    daemon = find(installed, "bin") / "nvidia-persistenced"
    assert daemon.resolve() == find(installed, "libexec") / "holdfast/nvidia-persistenced"


def test_a_second_install_changes_nothing(build, installed):
    before = {name: (installed / name).lstat().st_size for name in files(installed)}
    done = install(build, installed)
    assert done.returncode == 0, done.stderr
    assert {name: (installed / name).lstat().st_size for name in files(installed)} == before


def test_a_later_install_removes_files_that_no_longer_belong_to_it(build, installed):
    old = "/usr/share/holdfast/of-an-older-version"
    (installed / old[1:]).parent.mkdir(parents=True, exist_ok=True)
    (installed / old[1:]).touch()
    with open(installed / "var/lib/holdfast/manifest", "a", encoding="utf-8") as manifest:
        manifest.write(f"{old}\n")
    done = install(build, installed)
    assert done.returncode == 0, done.stderr
    assert not (installed / old[1:]).exists()


@pytest.mark.parametrize("init", ["systemd", "sysv", "openrc"])
def test_an_uninstall_leaves_only_the_user(build, root, init):
    need("systemctl")
    (root / "etc").mkdir()
    (root / "etc/passwd").touch()
    assert install(build, root, init=init).returncode == 0
    assert len(files(root)) > 20
    done = install(build, root, "--uninstall", init=init)
    assert done.returncode == 0, done.stderr
    assert files(root) <= ACCOUNTS


@pytest.mark.parametrize("init", ["sysv", "openrc"])
def test_without_systemd_the_install_has_an_init_script_and_no_unit(build, root, init):
    (root / "etc").mkdir()
    (root / "etc/passwd").touch()
    done = install(build, root, init=init)
    assert done.returncode == 0, done.stderr
    assert "to be run in" in done.stdout and "nvidia-persistenced" in done.stdout
    script = root / "etc/init.d/nvidia-persistenced"
    assert script.stat().st_mode & 0o777 == 0o755
    daemon = re.search(r"^(?:DAEMON|command)=/(\S+)$", script.read_text(), re.MULTILINE)[1]
    assert (root / daemon).exists()
    assert not [name for name in files(root) if "/systemd/" in name]


# The parts of openrc-run that a service's script needs.
OPENRC = """
ebegin() { :; }
eend() { return "$1"; }
. "$0"
"$1"
"""

# Prints the name of each signal that it receives.
WITNESS = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: os.write(1, signal.Signals(number).name.encode() + b"\\n"))
print("ready", flush=True)
while True:
    signal.pause()
"""


class InitScript:
    """An init script for a daemon and a PID file in this folder."""

    def __init__(self, init, folder):
        self.init = init
        self.daemon = Path(shutil.copy(os.path.realpath(sys.executable), folder / "nvidia-persistenced"))
        self.pid_file = folder / "pid"
        text = (TOP / f"packaging/{init}/nvidia-persistenced.in").read_text()
        text = text.replace("@DAEMON@", str(self.daemon))
        text = re.sub(r"^(PID_FILE|pidfile)=.*", rf"\1={self.pid_file}", text, flags=re.MULTILINE)
        self.path = folder / "script"
        self.path.write_text(text)

    def run(self, action):
        command = ["sh", self.path, action] if self.init == "sysv" else ["sh", "-c", OPENRC, self.path, action]
        return run(*command, start_new_session=True).returncode  # so that `kill 0` would not reach the tests


@contextlib.contextmanager
def witness(program, name=None):
    """A process that prints which signals it receives. name: the name that ps shows for it."""
    environment = os.environ | {"PYTHONHOME": sys.base_prefix}
    code = f"import pathlib; pathlib.Path('/proc/self/comm').write_text({name!r})\n{WITNESS}" if name else WITNESS
    with subprocess.Popen([program, "-I", "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("init, actions", [("sysv", ["reload", "stop", "restart"]), ("openrc", ["reload"])])
def test_init_scripts_send_no_signal_to_another_process_in_the_pid_file(tmp_path, init, actions):
    """The daemon's user can write the PID file, and any process can take the daemon's name."""
    script = InitScript(init, tmp_path)
    script.daemon.write_text("#!/bin/sh\n")  # a restart starts this
    with witness(sys.executable, "nvidia-persiste") as victim:
        for text in (f"{victim.pid}\n", f"-{victim.pid}\n", f"1 {victim.pid}\n", "0\n", ""):
            script.pid_file.write_text(text)
            for action in actions:
                script.run(action)
        victim.kill()
        assert victim.stdout.read() == ""


@pytest.mark.parametrize("init", ["sysv", "openrc"])
def test_a_reload_also_reaches_a_daemon_whose_program_was_replaced(tmp_path, init):
    script = InitScript(init, tmp_path)
    with witness(script.daemon) as daemon:
        script.pid_file.write_text(f"{daemon.pid}\n")
        assert script.run("reload") == 0
        assert daemon.stdout.readline() == "SIGHUP\n"
        script.daemon.unlink()
        script.daemon.write_text("#!/bin/sh\n")
        script.daemon.chmod(0o755)
        assert script.run("reload") == 0
        assert daemon.stdout.readline() == "SIGHUP\n"


@pytest.mark.parametrize("init", ["sysv", "openrc"])
def test_a_fifo_in_place_of_the_pid_file_does_not_block_an_init_script(tmp_path, init):
    script = InitScript(init, tmp_path)
    os.mkfifo(script.pid_file)
    start = time.monotonic()
    assert script.run("reload") != 0
    assert time.monotonic() - start < 10


def test_a_dry_run_of_install_only_prints_what_it_would_do(build, root):
    done = install(build, root, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"would run: copy_file \S+/nvidia-persistenced\.service", done.stdout), done.stdout
    assert "would run: systemctl" in done.stdout
    assert not files(root)


OTHERS = "nvidia-driver-595"  # the package that owns a path where install would put a file


def own_by_deb(root, path):
    """Registers the package with the path in the dpkg database of the tree."""
    database = root / "var/lib/dpkg"
    (database / "info").mkdir(parents=True)
    (database / "updates").mkdir()
    (database / "status").write_text(f"Package: {OTHERS}\nStatus: install ok installed\nArchitecture: all\n"
                                     "Version: 1\nMaintainer: nobody\nDescription: a driver's\n")
    (database / f"info/{OTHERS}.list").write_text(f"/.\n{path}\n")


def own_by_rpm(root, path):
    """Registers the package with the path in the rpm database of the tree."""
    built = root.parent / "rpm"
    spec = root.parent / "driver.spec"
    spec.write_text(f"Name: {OTHERS}\nVersion: 1\nRelease: 1\nSummary: a driver\nLicense: none\nBuildArch: noarch\n"
                    f"%description\na driver\n%install\ninstall -D /dev/null %{{buildroot}}{path}\n%files\n{path}\n")
    for command in (("rpmbuild", "--quiet", "-bb", f"--define=_topdir {built}", spec),
                    ("rpm", f"--root={root}", "--initdb"),
                    ("rpm", f"--root={root}", "--install", "--justdb", "--nodeps", "--ignorearch",
                     built / f"RPMS/noarch/{OTHERS}-1-1.noarch.rpm")):
        done = run(*command)
        assert done.returncode == 0, done.stderr


PACKAGERS = pytest.mark.parametrize(("tool", "own"), [("dpkg-query", own_by_deb), ("rpmbuild", own_by_rpm)],
                                    ids=["dpkg", "rpm"])


@pytest.fixture
def rpm_distribution(tmp_path, monkeypatch):
    """Makes rpm use /var/lib/rpm, as rpm distributions do. Debian's rpm uses the home directory."""
    (tmp_path / ".rpmmacros").write_text("%_dbpath /var/lib/rpm\n")
    monkeypatch.setenv("HOME", str(tmp_path))


def put_foreign(root, path, text="theirs"):
    """Makes a file that something else has installed."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return root / path


@PACKAGERS
@pytest.mark.parametrize("options", [[], ["--force"]], ids=["", "force"])
@pytest.mark.usefixtures("rpm_distribution")
def test_install_does_not_replace_files_of_another_package(build, root, tool, own, options):
    need(tool)
    program = put_foreign(root, "usr/bin/nvidia-persistenced")
    own(root, "/usr/bin/nvidia-persistenced")
    done = install(build, root, *options)
    assert done.returncode == 1
    assert f"/usr/bin/nvidia-persistenced belongs to the package {OTHERS};" in done.stderr
    assert not (root / "var/lib/holdfast").exists()
    assert program.read_text() == "theirs"


@pytest.mark.usefixtures("rpm_distribution")
def test_install_also_asks_rpm_where_dpkg_is_installed(build, root):
    need("rpmbuild")
    need("dpkg-query")
    put_foreign(root, "usr/bin/nvidia-persistenced")
    own_by_deb(root, "/usr/bin/another")
    own_by_rpm(root, "/usr/bin/nvidia-persistenced")
    done = install(build, root)
    assert done.returncode == 1
    assert f"/usr/bin/nvidia-persistenced belongs to the package {OTHERS};" in done.stderr


@pytest.mark.skipif(not os.path.samefile("/lib", "/usr/lib"), reason="/lib is no link")
def test_install_finds_the_package_of_a_unit_that_was_installed_before_lib_became_a_link(build, root):
    need("dpkg-query")
    put_foreign(root, "usr/lib/systemd/system/nvidia-persistenced.service")
    own_by_deb(root, "/lib/systemd/system/nvidia-persistenced.service")
    done = install(build, root)
    assert done.returncode == 1
    assert f"/usr/lib/systemd/system/nvidia-persistenced.service belongs to the package {OTHERS};" in done.stderr


@pytest.mark.parametrize(("init", "paths"), [
    ("systemd", ["usr/local/bin/nvidia-persistenced", "usr/local/lib/systemd/system/nvidia-persistenced.service"]),
    ("sysv", ["etc/init.d/nvidia-persistenced"]),
    ("openrc", ["etc/init.d/nvidia-persistenced"]),
])
def test_install_replaces_files_of_unknown_origin_only_with_force(build, root, init, paths):
    need("systemctl")
    (root / "etc").mkdir()
    (root / "etc/passwd").touch()
    foreign = [put_foreign(root, path) for path in paths]
    before = files(root)
    done = install(build, root, init=init)
    assert done.returncode == 1
    assert all(f" /{path}" in done.stderr for path in paths) and "use --force" in done.stderr, done.stderr
    assert [path.read_text() for path in foreign] == ["theirs"] * len(foreign) and files(root) == before

    done = install(build, root, "--force", init=init)
    assert done.returncode == 0, done.stderr
    assert not [path for path in foreign if path.read_bytes() == b"theirs"]
    assert install(build, root, init=init).returncode == 0, "they are its own files now"


def test_install_and_uninstall_leave_a_program_outside_the_prefix_that_no_package_owns(build, root):
    program = put_foreign(root, "usr/bin/nvidia-persistenced")
    for options in [], ["--uninstall"]:
        done = install(build, root, *options)
        assert done.returncode == 0, done.stderr
        assert program.read_text() == "theirs"


def test_an_installation_that_failed_can_be_repeated(build, root):
    need("systemctl")
    obstacle = root / "usr/local/share/man/man1/nvidia-persistenced.1"
    obstacle.mkdir(parents=True)
    assert install(build, root, "--force").returncode == 1
    assert len(files(root)) > 1 and not (root / "var/lib/holdfast/manifest").exists()
    obstacle.rmdir()
    done = install(build, root)
    assert done.returncode == 0, done.stderr
    assert (root / "etc/systemd/system/multi-user.target.wants/nvidia-persistenced.service").is_symlink()
    assert [path.name for path in (root / "var/lib/holdfast").iterdir()] == ["manifest"]


def test_an_uninstall_also_removes_an_installation_that_failed(build, root):
    (root / "usr/local/share/man/man1/nvidia-persistenced.1").mkdir(parents=True)
    assert install(build, root, "--force").returncode == 1
    (root / "usr/local/share/man/man1/nvidia-persistenced.1").rmdir()
    done = install(build, root, "--uninstall")
    assert done.returncode == 0, done.stderr
    assert files(root) <= ACCOUNTS


def test_an_uninstall_after_a_failed_installation_leaves_the_files_that_were_not_replaced_yet(build, root):
    (root / "etc/apparmor.d/holdfast-nvidia-persistenced").mkdir(parents=True)  # the first file
    program = put_foreign(root, "usr/local/bin/nvidia-persistenced")
    assert install(build, root, "--force").returncode == 1
    assert program.read_text() == "theirs"
    (root / "etc/apparmor.d/holdfast-nvidia-persistenced").rmdir()
    assert "has installed nothing here" in install(build, root, "--uninstall").stderr
    assert program.read_text() == "theirs"


def test_a_later_install_leaves_the_service_disabled(build, installed):
    assert run("systemctl", f"--root={installed}", "disable", "nvidia-persistenced.service").returncode == 0
    done = install(build, installed)
    assert done.returncode == 0, done.stderr
    assert not (installed / "etc/systemd/system/multi-user.target.wants/nvidia-persistenced.service").is_symlink()


@pytest.mark.parametrize("kept", [None, "etc/holdfast/hooks.d/10-site", "etc/holdfast/holdfast.conf"])
def test_install_makes_empty_folders_for_the_configuration_and_an_uninstall_keeps_only_those_with_files(build, root, kept):
    need("systemctl")
    assert install(build, root).returncode == 0
    for path in root / "etc/holdfast", root / "etc/holdfast/hooks.d":
        assert (path.stat().st_uid, path.stat().st_mode & 0o7777) == (0, 0o755)
    if kept:
        put_foreign(root, kept)
    assert install(build, root, "--uninstall").returncode == 0
    left = [str(path.relative_to(root)) for path in root.rglob("etc/holdfast/**/*") if not path.is_dir()]
    assert left == ([kept] if kept else [])
    assert (root / "etc/holdfast").exists() is bool(kept)


@pytest.fixture
def archive_without_names(image, tmp_path):
    """The archive of a build with -Dnvidia_names=false."""
    archive = tmp_path / "holdfast.tar"
    done = run("tar", "--create", f"--file={archive}", f"--directory={image}", "--exclude=nvidia-persistenced.service",
               "--exclude=system/nvidia-persistenced.socket", "--exclude=bin/nvidia-persistenced", "usr", "etc/holdfast")
    assert done.returncode == 0, done.stderr
    return archive


def test_a_build_without_nvidias_names_is_installed_beside_a_driver_package_and_nothing_is_enabled(root, archive_without_names):
    need("dpkg-query")
    need("systemctl")
    put_foreign(root, "usr/bin/nvidia-persistenced")
    own_by_deb(root, "/usr/bin/nvidia-persistenced")
    before = files(root)
    for _ in range(2):
        done = run(INSTALL, f"--archive={archive_without_names}", f"--root={root}", "--init=systemd")
        assert done.returncode == 0, done.stderr
    assert (root / "usr/local/lib/systemd/system/holdfast.service").exists()
    assert not (root / "etc/systemd").exists()
    done = run(INSTALL, "--uninstall", f"--root={root}", "--init=systemd")
    assert done.returncode == 0, done.stderr
    assert files(root) - before <= ACCOUNTS


@pytest.mark.parametrize(("options", "status", "says"), [
    (("--frobnicate",), 2, "unknown option '--frobnicate'"),
    (("--init=upstart",), 2, "unknown option '--init=upstart'"),
    (("--root=/no/such/folder",), 2, "the folder '/no/such/folder' does not exist"),
    (("--build=/no/such/folder",), 1, "/no/such/folder does not contain a build"),
    (("--uninstall",), 1, "has installed nothing here"),
])
def test_install_says_what_it_cannot_do(build, root, options, status, says):
    done = install(build, root, *options)
    assert done.returncode == status
    assert says in done.stderr
    assert not files(root)


@pytest.mark.parametrize("unit", DAEMON_UNITS)
def test_the_unit_permits_passing_the_kernel_log_through_the_descriptor_store(image, unit):
    text = find(image, unit).read_text()
    assert re.search(r"^ExecStartPre=-\+.* --pass-kernel-log$", text, re.M)
    assert re.search(r"^NotifyAccess=exec$", text, re.M) and re.search(r"^DeviceAllow=/dev/kmsg r$", text, re.M)
    assert int(re.search(r"^FileDescriptorStoreMax=(\d+)$", text, re.M)[1]) >= 1


# ---- after an upgrade -----------------------------------------------------------

SYSTEMCTL = """#!/bin/sh
for unit; do :; done # the last word
case $* in
*--property=MainPID*) cat "{folder}/$unit" 2>/dev/null || echo 0 ;;
*--property=RestartKillSignal*) echo 10 ;;
*restart*) echo "$unit" >>"{folder}/restarted" && echo 1 >"{folder}/$unit" ;;
esac
"""


@contextlib.contextmanager
def replaced_program(path):
    """Starts a process and removes its program, as an upgrade does. Yields the pid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(shutil.which("sleep"), path)
    process = subprocess.Popen([path, "1000"], stdin=subprocess.DEVNULL)
    try:
        path.unlink()
        yield process.pid
    finally:
        process.kill()
        process.wait(timeout=20)


def restart_replaced(folder, pids, invoke=SYSTEMCTL):
    """Runs restart-replaced with stand-ins for systemctl and deb-systemd-invoke. pids: the main process of each unit. Returns
    its messages and the restarted units. tests/lab/test_packages.py tests the same on real nodes."""
    need_root()
    tools = folder / "tools"
    tools.mkdir()
    (folder / "restarted").touch()
    for name, text in ("systemctl", SYSTEMCTL), ("deb-systemd-invoke", invoke):
        (tools / name).write_text(text.format(folder=folder))
        (tools / name).chmod(0o755)
    for unit, pid in pids.items():
        (folder / unit).write_text(f"{pid}\n")
    done = run("unshare", "--mount", "sh", "-ec", "mount -t tmpfs none /run; mkdir -p /run/systemd/system; exec \"$@\"", "sh",
               TOP / "packaging/restart-replaced", "holdfast.service", env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr
    return done.stdout, (folder / "restarted").read_text().split()


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "as before"])
def test_services_with_a_replaced_program_are_restarted_the_settings_service_first(tmp_path, replaced):
    with replaced_program(tmp_path / "libexec/holdfast/nvidia-persistenced") as daemon, \
            replaced_program(tmp_path / "bin/holdfast") as settings:
        said, restarted = restart_replaced(tmp_path, {"holdfast.service": daemon if replaced else os.getpid(),
                                                      "holdfast-settings.service": settings if replaced else os.getpid()})
    assert restarted == (["holdfast-settings.service", "holdfast.service"] if replaced else [])
    assert ("holdfast-settings.service was restarted; it does not apply settings again" in said) is replaced
    assert ("holdfast.service was restarted; its GPUs stayed initialised" in said) is replaced


def test_a_restart_that_policy_rc_d_prevents_is_not_reported_as_done(tmp_path):
    with replaced_program(tmp_path / "libexec/holdfast/nvidia-persistenced") as daemon:
        said, _ = restart_replaced(tmp_path, {"holdfast.service": daemon}, invoke="#!/bin/sh\nexit 0\n")
    assert said == "holdfast.service still runs the previous version: policy-rc.d prevented its restart. " \
                   "Restart it later: systemctl restart holdfast.service\n"


def test_a_replaced_daemon_that_is_not_ours_is_not_restarted(tmp_path):
    with replaced_program(tmp_path / "bin/nvidia-persistenced") as daemon:
        assert restart_replaced(tmp_path, {"holdfast.service": daemon}) == ("", [])
