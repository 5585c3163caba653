# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The configuration file: persistence of each GPU, who may change it, limits, and a reload on SIGHUP."""

import contextlib
import grp
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import holdfast_rpc, process, rpc
from harness.command import holdfast
from harness.events import wait_until
from harness.holdfast_rpc import HELD, RELEASED, UVM_OFF, UVM_ON

pytestmark = pytest.mark.holdfast_only("NVIDIA's daemon has no configuration file")

# Reading the file does not depend on the backend. The kernel backend's root is a FUSE mount without a writable /etc.
one_backend = pytest.mark.parametrize("backend", ["nvidia-cfg"])

GROUP = grp.getgrgid(1)  # any group without root


@pytest.fixture
def config(world):
    """The path of the file, which does not exist yet, in a world with three GPUs."""
    world.simulate(gpus=3)
    return world.base / "holdfast.conf"


def start(world, config, text, *options):
    config.write_text(text)
    return world.start("--verbose", "--config", str(config), *options)


def reload(daemon, config, text):
    """Sends SIGHUP, and returns the daemon's message about the result."""
    seen = len(daemon.log.all)
    config.write_text(text)
    os.kill(daemon.pid, signal.SIGHUP)
    said = wait_until(lambda: [line for line in daemon.log.all[seen:] if "onfiguration" in line],
                      "the daemon has logged the result of the reload")
    return said[-1]


def listed(daemon):
    with holdfast_rpc.Connection(daemon.socket_path) as connection:
        return connection.list()["gpus"]


def states(daemon):
    return [gpu["state"] for gpu in listed(daemon)]


def wait_states(daemon, *wanted, key="state"):
    with holdfast_rpc.Connection(daemon.socket_path, timeout=20) as connection:
        now = connection.list()
        while [gpu[key] for gpu in now["gpus"]] != list(wanted):
            now = connection.watch(now["serial"])


def initialisations_and_teardowns(world):
    return [(gpu["initialisations"], gpu["teardowns"]) for gpu in world.sim.status()["gpus"]]


# ---- rules for GPUs


def test_persistence_off_for_an_address_leaves_that_gpu_cold(world, config):
    daemon = start(world, config, f"[gpu {world.gpus[1]}]\npersistence = off\n")
    assert states(daemon) == [HELD, RELEASED, HELD]
    assert initialisations_and_teardowns(world)[1] == (0, 0)


@one_backend
@pytest.mark.parametrize("spelling", [str.upper, lambda text: text.removeprefix("0000:"),
                                      lambda text: "0000" + text], ids=["upper case", "no domain", "as NVML"])
def test_addresses_may_be_written_in_any_usual_form(world, config, spelling):
    daemon = start(world, config, f"[gpu {spelling(world.gpus[1])}]\npersistence = off\n")
    assert states(daemon) == [HELD, RELEASED, HELD]


@pytest.mark.parametrize("backend", ["kernel"])
def test_persistence_off_for_a_uuid_takes_effect_once_the_driver_reports_the_uuid(world, config):
    """The driver reads the UUID from the GPU, so the GPU is initialised once."""
    daemon = start(world, config, f"[gpu {world.sim.gpu(world.gpus[2])['uuid']}]\npersistence = off\n")
    wait_states(daemon, HELD, HELD, RELEASED)
    assert initialisations_and_teardowns(world)[2] == (1, 1)


def test_the_last_rule_that_matches_a_gpu_counts(world, config):
    daemon = start(world, config, f"[gpu {world.gpus[0]}]\npersistence = on\n[gpu *]\npersistence = off\n"
                                  f"[gpu {world.gpus[2]}]\npersistence = on\n")
    assert states(daemon) == [RELEASED, RELEASED, HELD]


def test_uvm_persistence_is_configured_per_gpu(world, config):
    daemon = start(world, config, f"[gpu *]\nuvm-persistence = on\n[gpu {world.gpus[0]}]\nuvm-persistence = off\n")
    wait_states(daemon, UVM_OFF, UVM_ON, UVM_ON, key="uvm")
    assert [gpu["uvm"] for gpu in world.sim.status()["gpus"]] == [0, 1, 1]


@one_backend
def test_the_file_takes_precedence_over_the_command_line(world, config):
    daemon = start(world, config, f"[gpu {world.gpus[0]}]\npersistence = on\n", "--no-persistence-mode")
    assert states(daemon) == [HELD, RELEASED, RELEASED]


@one_backend
def test_a_rule_that_matches_no_gpu_has_no_effect(world, config):
    daemon = start(world, config, "[gpu 00ff:01:00.0]\npersistence = off\n"
                                  "[gpu GPU-00000000-0000-0000-0000-000000000000]\npersistence = off\n")
    assert states(daemon) == [HELD] * 3


# ---- the path of the file


def test_without_a_file_only_the_options_count(world, config):
    assert states(world.start()) == [HELD] * 3


@one_backend
def test_the_default_path_is_below_the_root(world, config):
    usual = world.site.root / "etc/holdfast/holdfast.conf"
    usual.parent.mkdir(parents=True)
    usual.write_text("[gpu *]\npersistence = off\n")
    assert states(world.start()) == [RELEASED] * 3


@one_backend
def test_a_named_file_that_is_missing_is_an_error(world, config):
    done = world.run("--foreground", "--config", str(config))
    assert done.returncode == 6
    assert str(config) in done.stderr and "No such file" in done.stderr


@one_backend
def test_a_relative_path_is_relative_to_the_folder_of_the_start(world, config):
    """This also holds at a reload, after the daemon has changed its working directory."""
    config.write_text(f"[gpu {world.gpus[0]}]\npersistence = off\n")
    before = os.getcwd()
    os.chdir("/")
    try:
        daemon = world.start_forking("--verbose", "--config", str(config)[1:])
    finally:
        os.chdir(before)
    assert states(daemon) == [RELEASED, HELD, HELD]
    assert "read again" in reload(daemon, config, "")
    wait_states(daemon, HELD, HELD, HELD)


# ---- reload


def test_a_reload_applies_what_has_changed(world, config):
    daemon = start(world, config, f"[gpu {world.gpus[0]}]\npersistence = off\n")
    assert "read again" in reload(daemon, config, f"[gpu {world.gpus[1]}]\npersistence = off\n")
    wait_states(daemon, HELD, RELEASED, HELD)
    wait_until(lambda: initialisations_and_teardowns(world) == [(1, 0), (1, 1), (1, 0)], "only GPU 1 is torn down")


def test_a_rule_with_an_index_applies_to_the_same_gpu_until_a_reload(world, config):
    daemon = start(world, config, "[gpu 1]\npersistence = off\n")
    wait_states(daemon, HELD, RELEASED, HELD)
    world.sim.ctl("remove", gpu=world.gpus[0])
    wait_until(lambda: len(configured(daemon)) == 2, "the daemon has noticed the removal")
    assert configured(daemon) == [(0, 0), (1, 0)]
    assert "read again" in reload(daemon, config, "[gpu 1]\npersistence = off\n")
    wait_states(daemon, RELEASED, HELD)


def configured(daemon):
    with holdfast_rpc.Connection(daemon.socket_path) as connection:
        return [said for _, said in sorted(connection.configured().items())]


@one_backend
def test_configured_reports_the_configuration_and_not_what_a_client_set(world, config):
    daemon = start(world, config, f"[gpu {world.gpus[0]}]\npersistence = off\n[gpu {world.gpus[1]}]\nuvm-persistence = on\n")
    assert configured(daemon) == [(0, 0), (1, 1), (1, 0)]
    assert daemon.set(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    assert daemon.set(world.gpus[2], rpc.DISABLED) == rpc.SUCCESS
    assert configured(daemon) == [(0, 0), (1, 1), (1, 0)]
    reload(daemon, config, "[gpu *]\npersistence = off\n")
    assert configured(daemon) == [(0, 0)] * 3


def test_check_and_doctor_compare_with_the_configuration(world, config):
    daemon = start(world, config, f"[gpu {world.gpus[0]}]\npersistence = off\n")
    wait_states(daemon, RELEASED, HELD, HELD)
    result = holdfast(world.site.root, "check")
    assert result.status == 0 and ", 1 off as configured" in result.out
    found = {check["id"]: check for check in holdfast(world.site.root, "doctor", "--json").json("doctor")["checks"]}
    assert found["persistence"]["verdict"] == "note" and "as configured" in found["persistence"]["summary"]
    assert daemon.set(world.gpus[1], rpc.DISABLED) == rpc.SUCCESS
    assert holdfast(world.site.root, "check").status == 2


def test_a_reload_changes_uvm_persistence_without_releasing_a_gpu(world, config):
    daemon = start(world, config, "")
    reload(daemon, config, f"[gpu {world.gpus[0]}]\nuvm-persistence = on\n")
    wait_states(daemon, UVM_ON, UVM_OFF, UVM_OFF, key="uvm")
    reload(daemon, config, "")
    wait_states(daemon, UVM_OFF, UVM_OFF, UVM_OFF, key="uvm")
    assert initialisations_and_teardowns(world) == [(1, 0)] * 3


def test_a_set_survives_a_reload_that_changes_nothing_for_that_gpu(world, config):
    daemon = start(world, config, "")
    assert daemon.set_only(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    reload(daemon, config, f"[gpu {world.gpus[1]}]\npersistence = off\n")
    wait_states(daemon, RELEASED, RELEASED, HELD)
    assert initialisations_and_teardowns(world)[0] == (1, 1), "the reload opened the GPU again"


def test_a_reload_that_changes_the_rule_for_a_gpu_overrides_an_earlier_set(world, config):
    daemon = start(world, config, "")
    assert daemon.set_only(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    reload(daemon, config, f"[gpu {world.gpus[0]}]\npersistence = off\n")
    reload(daemon, config, "")
    wait_states(daemon, HELD, HELD, HELD)


def test_a_set_to_the_configured_mode_is_also_overridden_by_a_changed_rule(world, config):
    daemon = start(world, config, "")
    assert daemon.set_only(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    reload(daemon, config, f"[gpu {world.gpus[0]}]\npersistence = off\n")
    wait_states(daemon, RELEASED, HELD, HELD)


@pytest.mark.parametrize("backend", ["kernel"])
def test_a_set_lasts_when_the_driver_reports_a_uuid_that_another_rule_names(world):
    """Only a reload overrides a Set. Here the file stays the same, and the daemon learns which GPU a rule is for."""
    world.simulate(gpus=2, gpu1="hang = open")
    config, address = world.base / "holdfast.conf", world.gpus[1]
    config.write_text(f"[gpu {world.sim.gpu(address)['uuid']}]\npersistence = off\n")
    daemon = world.begin("--verbose", "--config", str(config))
    wait_until(lambda: world.sim.gpu(address)["initialising"], "the first open has begun")
    daemon.wait_socket()
    with daemon.connect(timeout=20) as connection:
        arguments = rpc.device(address) + rpc.words(rpc.ENABLED)
        connection.send_until_taken(rpc.record(rpc.call_message(2, rpc.V2_SET_ONLY, arguments)))
        world.sim.ctl("hang", gpu=address, on=False)
        assert connection.receive().results == [rpc.SUCCESS]
    wait_states(daemon, HELD, HELD)
    assert configured(daemon) == [(1, 0), (0, 0)]


@pytest.mark.parametrize("backend", ["kernel"])
@pytest.mark.parametrize("said, state", [("off", HELD), ("on", RELEASED)])
def test_a_reload_also_applies_to_a_gpu_that_is_unbound(world, config, said, state):
    """Two reloads while a GPU that was set off is unbound. If the first changes its configuration and the second changes it
    back, the Set is overridden; two reloads without a change leave it in effect."""
    daemon = start(world, config, "")
    address = world.gpus[1]
    assert daemon.set_only(address, rpc.DISABLED) == rpc.SUCCESS
    world.sim.ctl("unbind", gpu=address, timeout=20)
    wait_until(lambda: len(listed(daemon)) == 2, "the daemon has noticed the unbind")
    reload(daemon, config, f"[gpu {address}]\npersistence = {said}\n")
    reload(daemon, config, "")
    world.sim.ctl("bind", gpu=address)
    wait_until(lambda: len(listed(daemon)) == 3, "the daemon has noticed the bind")
    wait_states(daemon, HELD, state, HELD)


@one_backend
def test_a_reload_fails_if_the_named_file_is_missing(world, config):
    daemon = start(world, config, f"[gpu {world.gpus[0]}]\npersistence = off\n")
    config.unlink()
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("the current configuration stays in effect")
    assert states(daemon) == [RELEASED, HELD, HELD]


# ---- errors

MISTAKES = [
    ("[gpu *]\npersistence = maybe\n", 2, "'maybe' is neither on nor off"),
    ("[gpu *]\n\n; a comment\npersistance = on\n", 4, "unknown key 'persistance'"),
    ("[gpu sixteen]\npersistence = on\n", 2, "[gpu sixteen] names no GPU"),
    ("[gpu 0000:zz:00.0]\npersistence = on\n", 2, "names no GPU"),
    ("[gpus]\npersistence = on\n", 2, "unknown section [gpus]"),
    ("persistence = on\n", 1, "'persistence' appears before the first section"),
    ("[daemon]\nadmin-group = no-such-group-here\n", 2, "no group 'no-such-group-here'"),
    ("[daemon]\nmax-sessions = 0\n", 2, "'0' is not a number from 1"),
    ("[daemon]\nmax-sessions = many\n", 2, "'many' is not a number"),
    ("[daemon]\nstuck-timeout = -1\n", 2, "'-1' is not a number"),
    ("[daemon]\nallow-containers = perhaps\n", 2, "'perhaps' is neither yes nor no"),
    ("[daemon]\nverbose = yes\n", 2, "unknown key 'verbose' in [daemon]"),
    ("[gpu *]\nthis is nothing\n", 2, "neither [section] nor key = value"),
    ("[gpu *\npersistence = on\n", 1, "neither [section] nor key = value"),
    ("".join(f"[gpu 0000:{number:02x}:00.0]\npersistence = on\n" for number in range(129)), 258, "more than 128"),
]
each_mistake = pytest.mark.parametrize("text,line,why", MISTAKES, ids=[why for _, _, why in MISTAKES])


def run_check(world, *options):
    return world.run("--check-config", *options)


@one_backend
@each_mistake
def test_a_mistake_is_reported_with_file_and_line(world, config, text, line, why):
    config.write_text(text)
    done = run_check(world, "--config", str(config))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"{config}:{line}: ") and why in done.stderr, done.stderr


@one_backend
def test_only_the_first_mistake_is_reported(world, config):
    config.write_text("[gpu *]\none = 1\ntwo = 2\n")
    done = run_check(world, "--config", str(config))
    assert len(done.stderr.splitlines()) == 1 and "'one'" in done.stderr


@one_backend
def test_with_a_mistake_the_daemon_does_not_start_and_names_the_line(world, config):
    config.write_text("[gpu *]\npersistence = maybe\n")
    for options in [], ["--foreground"]:
        done = world.run("--config", str(config), *options)
        assert done.returncode == 6 and f"{config}:2: " in done.stderr, done.stderr
    assert not world.site.socket_path.exists() and not world.site.pid_file.exists()


@one_backend
def test_a_reload_with_a_mistake_changes_nothing(world, config):
    daemon = start(world, config, f"[gpu {world.gpus[0]}]\npersistence = off\n")
    assert "configuration stays in effect" in reload(daemon, config, "[gpu *]\npersistence = off\nuvm-persistence = maybe\n")
    daemon.wait_for_log(f"{config}:3: 'maybe'")
    assert states(daemon) == [RELEASED, HELD, HELD]
    reload(daemon, config, "")
    wait_states(daemon, HELD, HELD, HELD)


@one_backend
def test_check_config_says_that_a_file_is_valid_and_starts_no_daemon(world, config):
    config.write_text("[daemon]\nmax-sessions = 10\n[gpu *]\npersistence = on\n")
    done = run_check(world, "--config", str(config))
    assert (done.returncode, done.stderr) == (0, "") and "valid" in done.stdout
    assert not world.site.pid_file.exists()


@one_backend
def test_check_config_fails_if_the_named_file_is_missing(world, config):
    done = run_check(world, "--config", str(config))
    assert done.returncode == 1 and str(config) in done.stderr


@one_backend
def test_check_config_without_any_file_succeeds(world, config):
    done = run_check(world)
    assert (done.returncode, done.stderr) == (0, "")


@one_backend
def test_check_config_fails_on_a_folder(world, config):
    config.mkdir()
    done = run_check(world, "--config", str(config))
    assert done.returncode == 1 and str(config) in done.stderr, done.stderr


@one_backend
@pytest.mark.parametrize("content", [b"\0" * 4096, b"\xff\xfe[gpu *]\n", b"[" * 100_000, b"a=" + b"b" * 100_000,
                                     b"[gpu *]\r\npersistence = on\r\n", b"\xef\xbb\xbf[gpu *]\npersistence = on\n"],
                         ids=["zeros", "no text", "a long section", "a long value", "DOS line ends", "a byte order mark"])
def test_check_config_survives_any_content(world, config, content):
    config.write_bytes(content)
    done = run_check(world, "--config", str(config))
    assert done.returncode in (0, 1), done.stderr
    assert (done.returncode == 0) == (done.stderr == "")


# ---- who may change


def set_as_group(daemon, address, *groups):
    """Makes a Set to disabled as the user nobody in these groups. Returns the status."""
    command = [sys.executable, "-I", "-c", Path(rpc.__file__).read_text(), str(daemon.socket_path),
               f"set_only({address!r}, {rpc.DISABLED})"]
    done = subprocess.run(command, user=process.NOBODY, group=process.NOBODY, extra_groups=groups, cwd="/",
                          capture_output=True, text=True, timeout=30, check=True)
    return int(done.stdout)


@one_backend
def test_members_of_the_admin_group_may_set(world, config):
    daemon = start(world, config, f"[daemon]\nadmin-group = {GROUP.gr_name}\n")
    assert set_as_group(daemon, world.gpus[0]) == rpc.PERMISSIONS
    assert set_as_group(daemon, world.gpus[0], GROUP.gr_gid) == rpc.SUCCESS
    assert states(daemon) == [RELEASED, HELD, HELD]


@one_backend
def test_a_reload_changes_who_may_set(world, config):
    daemon = start(world, config, "")
    assert set_as_group(daemon, world.gpus[0], GROUP.gr_gid) == rpc.PERMISSIONS
    reload(daemon, config, f"[daemon]\nadmin-group = {GROUP.gr_name}\n")
    assert set_as_group(daemon, world.gpus[0], GROUP.gr_gid) == rpc.SUCCESS
    reload(daemon, config, "")
    assert set_as_group(daemon, world.gpus[1], GROUP.gr_gid) == rpc.PERMISSIONS


# ---- limits


@one_backend
def test_the_limit_of_sessions_is_enforced_and_a_reload_changes_it(world, config):
    daemon = start(world, config, "[daemon]\nmax-sessions = 5\n")
    with contextlib.ExitStack() as crowd:
        for _ in range(12):
            crowd.enter_context(daemon.connect()).null(1)
        with holdfast_rpc.Connection(daemon.socket_path) as client:
            stats = client.stats()
            assert (stats["sessions"], stats["sessions_max"]) == (5, 5)
            reload(daemon, config, "[daemon]\nmax-sessions = 9\n")
            assert client.stats()["sessions_max"] == 9


def kept_as_nobody(daemon, count):
    """Makes `count` connections from one unprivileged uid and calls on each. Returns how many the daemon has kept."""
    pid = os.fork()
    if pid == 0:
        kept = 0
        try:
            os.setgroups([])
            os.setgid(process.NOBODY)
            os.setuid(process.NOBODY)
            clients = []
            for _ in range(count):
                clients.append(daemon.connect())
                clients[-1].null(1)
            for client in clients:
                with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
                    client.null(1)
                    kept += 1
        finally:
            os._exit(kept)
    return process.reap(pid, 30)


@one_backend
def test_the_limit_of_one_users_sessions_affects_no_other_user(world, config):
    """A user above the limit loses his own older sessions. The limit does not apply to root."""
    daemon = start(world, config, "[daemon]\nmax-sessions-per-user = 2\n")
    with contextlib.ExitStack() as crowd:
        clients = [crowd.enter_context(holdfast_rpc.Connection(daemon.socket_path)) for _ in range(6)]
        for client in clients:
            client.null(1)
        assert kept_as_nobody(daemon, 5) == 2
        assert [client.null(1) for client in clients] == [[]] * 6


def test_the_file_sets_the_stuck_timeout(world):
    world.simulate(gpus=2, gpu1="hang = open")
    config = world.base / "holdfast.conf"
    daemon = start(world, config, "[daemon]\nstuck-timeout = 1\n")
    assert [gpu["stuck"] for gpu in listed(daemon)] == [0, 1]
