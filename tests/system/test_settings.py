# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""`holdfast settings serve` applies settings after each initialisation of a GPU and runs hooks; the commands show the state."""

import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from conftest import BUILD
from harness import holdfast_rpc
from harness.command import holdfast
from harness.events import wait_until
from harness.settings import APPLIED, DEFAULTS, LIBRARY, WANTED, Service

pytestmark = pytest.mark.holdfast_only("NVIDIA has no such service")

# Settings do not depend on the backend. The kernel backend's root is a FUSE mount without a writable /etc.
one_backend = pytest.mark.parametrize("backend", ["nvidia-cfg"])

DONE, DIFFERS, NOT_PERMITTED = 0, 1, 4


@pytest.fixture
def serve(world):
    """Starts the service with a configuration's text and options."""
    started = []

    def start(text=WANTED, *options, **variables):
        started.append(Service(world, text, *options, **variables))
        return started[-1]

    yield start
    for service in started:
        service.stop()


def settings_of(world, index=0):
    return world.sim.status()["gpus"][index]["settings"]


def command(world, *arguments, **how):
    return holdfast(world.base / "root", "settings", *arguments, HOLDFAST_SIM_SOCKET=str(world.sim.socket_path), **how)


def put_hook(service_root, name, script, mode=0o755):
    folder = service_root / "etc/holdfast/hooks.d"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    return path


# ---- after each initialisation --------------------------------------------------


@one_backend
def test_the_service_applies_settings_at_its_start_and_after_each_initialisation(world, daemon, serve):
    service = serve()
    service.wait_applied(0)
    service.wait_applied(1)
    assert settings_of(world, 0) == settings_of(world, 1) == APPLIED
    assert holdfast(world.base / "root", "check").status == 0
    assert "as wanted" not in holdfast(world.base / "root", "status").out
    root = world.base / "root"
    for n in range(2, 5):
        assert holdfast(root, "set", "off", "--gpu", "0").status == DONE
        assert world.sim.status()["gpus"][0]["initialised"] is False
        assert holdfast(root, "set", "on", "--gpu", "0").status == DONE
        service.wait_applied(0, opens=n)
        assert settings_of(world, 0) == APPLIED
    assert world.sim.status()["gpus"][1]["teardowns"] == 0


def lose_settings(world, daemon, source):
    """Makes the driver lose GPU 0's settings in one of several ways. The GPU is held again soon afterwards."""
    address, root = world.gpus[0], world.base / "root"
    what = source.choice(("teardown", "reset", "reload", "hot-plug"))
    if what == "teardown":
        for mode in ("off", "on"):
            assert holdfast(root, "set", mode, "--gpu", address).status == DONE
    elif what == "reset":
        with holdfast_rpc.Connection(daemon.socket_path, timeout=30) as lease:
            assert lease.release(address) == 0
            # The simulator may learn of the close a moment later.
            wait_until(lambda: world.sim.gpu(address)["usage_count"] == 0, "the driver has closed the GPU")
            world.sim.ctl("reset", gpu=address)
    else:
        away, back = ("unbind", "bind") if what == "reload" else ("remove", "add")
        gpus = world.gpus if what == "reload" else [address]
        for gpu in gpus:
            world.sim.ctl(away, gpu=gpu)
        for gpu in gpus:
            world.sim.ctl(back, gpu=gpu)
    return what


@pytest.mark.timeout(900)  # a loss runs several programs, and some machines take 10 ms to start one
@pytest.mark.parametrize("backend", ["kernel"])
def test_the_service_restores_the_settings_after_each_of_100_random_losses(world, daemon, serve):
    serve(WANTED).wait_applied(0)
    source = random.Random(18)
    done = []
    for _ in range(100):
        done.append(lose_settings(world, daemon, source))
        wait_until(lambda: settings_of(world) == APPLIED, f"the settings are applied after {done[-3:]}", timeout=20)
    assert set(done) == {"teardown", "reset", "reload", "hot-plug"}
    assert world.sim.gpu(world.gpus[0])["teardowns"] >= 100


@one_backend
def test_without_the_service_the_driver_loses_the_settings(world, daemon):
    world.sim.ctl("set", gpu=world.gpus[0], power_limit_w=500)
    root = world.base / "root"
    assert settings_of(world)["power_limit_w"] == 500
    assert holdfast(root, "set", "off", "--gpu", "0").status == DONE
    assert holdfast(root, "set", "on", "--gpu", "0").status == DONE
    assert settings_of(world) == DEFAULTS


@one_backend
def test_the_service_does_not_change_a_setting_that_is_right(world, daemon, serve):
    world.sim.ctl("set", gpu=world.gpus[0], power_limit_w=500)
    opens = len(world.sim.journal("opened"))
    service = serve("[gpu *]\npower-limit = 500\n")
    service.wait_applied(0)
    service.wait_applied(1)
    assert settings_of(world, 1)["power_limit_w"] == 500
    assert len(world.sim.journal("opened")) - opens == 1  # each change opens the GPU, so only GPU 1 was changed


@pytest.mark.parametrize("backend", ["kernel"])
def test_after_a_restart_of_the_daemon_the_service_applies_nothing_until_a_gpu_is_opened(world, serve):
    world.simulate(gpus=2)
    manager = world.supervise("--verbose")
    manager.start().wait_ready()
    wait_until(lambda: len(manager.kept) == 2, "the keeper has both GPUs")
    service = serve("[gpu *]\npower-limit = 500\n")
    service.wait_applied(0)
    before = service.wait_applied(1)["daemon_started"]
    world.sim.ctl("set", gpu=world.gpus[0], power_limit_w=600)  # as an administrator does
    manager.restart(signal.SIGUSR1)
    wait_until(lambda: service.state(1)["daemon_started"] != before, "the service has noticed the new daemon", timeout=20)
    assert service.state(1)["opens"] == 0, "the new daemon did not adopt the GPU"
    assert holdfast(world.base / "root", "set", "off", "--gpu", "1").status == DONE
    assert holdfast(world.base / "root", "set", "on", "--gpu", "1").status == DONE
    wait_until(lambda: settings_of(world, 1)["power_limit_w"] == 500, "the GPU that was opened has its setting", timeout=20)
    assert settings_of(world, 0)["power_limit_w"] == 600


@pytest.mark.parametrize("end", ["restart", "kill"])
@one_backend
def test_after_its_own_restart_the_service_repeats_nothing(world, daemon, serve, end):
    record = world.base / "record"
    put_hook(world.base / "root", "10-record", f"echo $EVENT $GPU_INDEX >>{record}")
    text = "[gpu *]\npower-limit = 500\n"
    service = serve(text)
    for index in (0, 1):
        service.wait_applied(index)
        wait_until(lambda index=index: not service.state(index)["busy"], "the service has nothing left to do", timeout=20)
    world.sim.ctl("set", gpu=world.gpus[0], power_limit_w=600)  # as an administrator does
    assert holdfast(world.base / "root", "set", "off", "--gpu", "1").status == DONE
    wait_until(lambda: "released 1" in record.read_text() and not service.state(1)["busy"], "the hook has seen the release",
               timeout=20)
    service.stop(signal.SIGUSR1) if end == "restart" else service.kill()
    assert holdfast(world.base / "root", "set", "on", "--gpu", "1").status == DONE
    service = serve(text)
    service.wait_applied(1)
    wait_until(lambda: settings_of(world, 1)["power_limit_w"] == 500, "the GPU opened meanwhile has its setting", timeout=20)
    wait_until(lambda: service.state(0)["settings"][0]["differs"], "the service has noticed the difference", timeout=20)
    assert settings_of(world, 0)["power_limit_w"] == 600
    wait_until(lambda: not service.state(1)["busy"], "the hooks have ended", timeout=20)
    assert sorted(record.read_text().splitlines()) == ["held 0", "held 1", "held 1", "released 1"]
    service.stop(signal.SIGUSR1)
    service = serve("[gpu *]\npower-limit = 300\n")
    wait_until(lambda: settings_of(world, 0)["power_limit_w"] == settings_of(world, 1)["power_limit_w"] == 300,
               "the new settings are applied", timeout=20)


@one_backend
def test_new_settings_do_not_count_as_applied_while_the_driver_is_asked_to_apply_them(world, daemon, serve):
    """The role of Ansible restarts the service after a change of the configuration, and waits until all settings are applied."""
    service = serve("[gpu *]\npower-limit = 500\n")
    service.wait_applied(0)
    wait_until(lambda: not service.state(0)["busy"], "the service has nothing left to do", timeout=20)
    service.stop(signal.SIGUSR1)
    service = serve("[gpu *]\npower-limit = 300\n", HOLDFAST_NVML_FAULT="hang")
    gpu = wait_until(lambda: (gpu := service.state(0)) and gpu["configured"] == ["power-limit = 300 W"] and gpu,
                     "the service has begun to apply the new settings", timeout=20)
    assert gpu["busy"] and not gpu["applied"]
    told = holdfast(world.base / "root", "status", "--json").json("status")["gpus"][0]["settings"]
    assert not told["applied"]


@one_backend
def test_the_wanted_settings_of_a_gpu_that_is_not_held_are_shown_with_the_reason(world, daemon, serve):
    service = serve("[gpu *]\npower-limit = 500\n")
    service.wait_applied(0)
    assert holdfast(world.base / "root", "set", "off", "--gpu", "0").status == DONE
    wait_until(lambda: service.state(0)["settings"][0]["reason"] == "not applied: the GPU is not held",
               "the state has the reason", timeout=20)
    assert not service.state(0)["applied"] and not service.state(0)["settings"][0]["differs"]
    shown = command(world, "--gpu", "0")
    assert shown.status == DONE and "500 W" in shown.out and "the GPU is not held" in shown.out
    assert holdfast(world.base / "root", "metrics").out.count("holdfast_setting_drift{") == 2


@one_backend
def test_a_reload_of_the_service_applies_the_new_settings(world, daemon, serve):
    service = serve("[gpu *]\npower-limit = 500\n")
    service.wait_applied(0)
    service.config.write_text("[gpu *]\npower-limit = 50%\n[gpu 1]\npower-limit = 100%\n")
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: settings_of(world, 0)["power_limit_w"] == 350, "GPU 0 has half of 700 W", timeout=20)
    wait_until(lambda: settings_of(world, 1)["power_limit_w"] == 700, "GPU 1 has 700 W", timeout=20)
    service.config.write_text("[gpu *]\npower-limit = lots\n")
    os.kill(service.pid, signal.SIGHUP)
    service.log.wait_for(r":2: 'lots' is neither watts", timeout=20)
    service.log.wait_for("the current configuration stays in effect", timeout=20)


@one_backend
def test_no_setting_is_changed_during_a_lease(world, daemon, serve):
    service = serve("[gpu *]\npower-limit = 500\n")
    service.wait_applied(0)
    with holdfast_rpc.Connection(daemon.socket_path, timeout=30) as lease:
        lease.release()
        wait_until(lambda: not service.state(0)["applied"], "the service has noticed the lease", timeout=20)
        os.kill(service.pid, signal.SIGHUP)
        service.log.wait_for("configuration read again", timeout=20)
        result = command(world, "apply", "--config", service.config, "--nvml", LIBRARY)
        assert result.status == DIFFERS and result.out.count("a client has a lease") == 2
        assert world.sim.users() == [0, 0]
        assert settings_of(world) == DEFAULTS
    service.wait_applied(0, opens=2)
    assert settings_of(world)["power_limit_w"] == 500


@one_backend
def test_release_reports_held_again_after_the_settings_are_applied(world, daemon, serve):
    service = serve(WANTED)
    service.wait_applied(0)
    root = world.base / "root"
    reset = [BUILD / "sim/holdfast-sim", "ctl", "--socket", world.sim.socket_path, "reset", "--gpu", world.gpus[0]]
    for _ in range(5):
        result = holdfast(root, "release", "--gpu", "0", "--", *reset)
        assert result.status == DONE and "held again" in result.err and "warning" not in result.err, result.err
        assert settings_of(world) == APPLIED
    service.config.write_text("[gpu *]\npower-limit = 900\n")
    os.kill(service.pid, signal.SIGHUP)
    service.log.wait_for("outside the GPU's range", timeout=20)
    result = holdfast(root, "release", "--gpu", "0", "--", *reset)
    assert result.status == DONE and "the settings of 1 GPU are not as wanted; see holdfast settings" in result.err


@pytest.mark.parametrize("backend", ["kernel"])
def test_bench_warns_once_of_settings_that_are_not_as_wanted(world, daemon, serve):
    service = serve("[gpu *]\npower-limit = 900\n")
    service.log.wait_for("outside the GPU's range", timeout=20)
    result = holdfast(world.base / "root", "bench", "--yes", "--gpu", "0", "--count", "3", timeout=120)
    assert result.status == DONE and result.err.count("are not as wanted") == 1, result.err


@one_backend
def test_release_does_not_wait_for_a_service_that_has_died(world, daemon, serve):
    service = serve(WANTED)
    service.wait_applied(0)
    service.kill()
    assert service.state_path.exists()
    result = holdfast(world.base / "root", "release", "--gpu", "0", "--", "true")
    assert result.status == DONE and "warning" not in result.err, result.err


# ---- settings that cannot be applied ----------------------------------------------


@one_backend
def test_impossible_settings_are_reported_and_the_others_are_applied(world, daemon, serve):
    service = serve("[gpu *]\npower-limit = 900\ngraphics-clocks = 100-1410\nmemory-clocks = 1593\necc = off\nmig = on\n")
    gpu = service.wait_applied(0)
    service.wait_applied(1)
    rows = {row["name"]: row for row in gpu["settings"]}
    assert rows["power-limit"]["reason"] == "900 W is outside the GPU's range of 200 to 700 W"
    assert rows["power-limit"]["actual"] == "700 W"
    assert rows["graphics-clocks"]["reason"] == "100 MHz is outside the GPU's range of 345 to 1980 MHz"
    assert rows["memory-clocks"]["applied"] and not rows["memory-clocks"]["differs"]
    assert rows["ecc"]["actual"] == "on"
    assert f"nvidia-smi -i {world.gpus[0]} -e 0" in rows["ecc"]["reason"] and "--gpu-reset" in rows["ecc"]["reason"]
    assert rows["mig"]["reason"] == "this GPU or driver does not support it"
    assert settings_of(world) == DEFAULTS | {"memory_clock_mhz": 1593}
    world.sim.wait_users(1, 1)
    root = world.base / "root"
    checked = holdfast(root, "check")
    assert checked.status == 1 and "8 settings or hooks not as wanted, see holdfast settings" in checked.out
    assert holdfast(root, "check", "--ignore-settings").status == 0
    assert "8 settings or hooks of GPUs are not as wanted" in holdfast(root, "status").out
    told = holdfast(root, "status", "--json").json("status")["gpus"][0]["settings"]
    assert told["applied"] and len(told["problems"]) == 4
    assert told["problems"][0] == f"power-limit, wanted 900 W: {rows['power-limit']['reason']}"
    found = next(check for check in holdfast(root, "doctor", "--json").json("doctor")["checks"] if check["id"] == "settings")
    assert found["verdict"] == "problem" and found["cure"] == "holdfast settings apply"
    assert any("power-limit, wanted 900 W: 900 W is outside" in line for line in found["evidence"])
    metrics = holdfast(root, "metrics").out
    for line in ("wanted{%s} 900", "actual{%s} 700", "drift{%s} 1"):
        labels = f'gpu="0",pci_bus_id="0000{world.gpus[0].upper()}",setting="power-limit"'
        assert f"\nholdfast_setting_{line % labels}\n" in metrics
    shown = command(world)
    assert shown.status == DIFFERS and "outside the GPU's range of 200 to 700 W" in shown.out


@pytest.mark.parametrize("fault, sentence, others", [
    ("mismatch", "Driver/library version mismatch", None),
    ("unsupported", "this GPU or driver does not support it", "exclusive-process"),
    ("crash", "the process that applies its settings died; NVML may have crashed", None),
])
@one_backend
def test_a_failure_of_nvml_releases_no_gpu(world, daemon, serve, fault, sentence, others):
    """Each failed setting has a reason. If NVML fails for only one setting, the other is applied."""
    service = serve("[gpu *]\npower-limit = 500\ncompute-mode = exclusive-process\n", HOLDFAST_NVML_FAULT=fault)
    for gpu in (service.wait_applied(0), service.wait_applied(1)):
        rows = {row["name"]: row for row in gpu["settings"]}
        assert rows["power-limit"]["differs"] and sentence in rows["power-limit"]["reason"]
        assert rows["compute-mode"]["differs"] is not bool(others) and rows["compute-mode"]["actual"] == others
    assert settings_of(world)["power_limit_w"] == 700
    world.sim.wait_users(1, 1)
    assert sentence in " ".join(command(world).out.split())
    assert holdfast(world.base / "root", "check").status == 1


@one_backend
def test_a_reason_stays_the_same_at_the_next_check(world, daemon, serve):
    text = "[gpu *]\npower-limit = 500\ngraphics-clocks = 1410\n"
    service = serve(text, "--interval", "1", HOLDFAST_NVML_FAULT="unsupported")
    service.wait_applied(0)
    written = set()
    wait_until(lambda: written.add(json.loads(service.state_path.read_text())["written"]) or len(written) >= 6,
               "the service has checked six times", timeout=30)
    assert {row["reason"] for row in service.state(0)["settings"]} == {"this GPU or driver does not support it"}


@one_backend
def test_settings_are_applied_once_nvml_can_be_loaded(world, daemon, serve):
    library = world.base / "libnvidia-ml.so.1"
    service = serve("[gpu *]\npower-limit = 500\n", "--interval", "1", "--nvml", library)
    service.wait_applied(0)
    assert "cannot load" in service.state(0)["problem"]
    shutil.copy(LIBRARY, library)
    wait_until(lambda: settings_of(world, 0)["power_limit_w"] == settings_of(world, 1)["power_limit_w"] == 500,
               "both GPUs have the setting", timeout=20)


@one_backend
def test_without_nvml_the_gpus_stay_held_and_the_reason_is_shown(world, daemon):
    config = world.base / "holdfast.conf"
    config.write_text("[gpu *]\npower-limit = 500\n")
    result = command(world, "apply", "--config", config, "--nvml", "/nonexistent/libnvidia-ml.so.1")
    assert result.status == DIFFERS and "cannot load /nonexistent/libnvidia-ml.so.1" in result.out
    world.sim.wait_users(1, 1)


@one_backend
def test_a_percentage_of_an_unknown_maximum_has_no_value_in_watts(world, daemon, serve):
    service = serve("[gpu *]\npower-limit = 80%\n", HOLDFAST_NVML_FAULT="mismatch")
    row, = service.wait_applied(0)["settings"]
    assert (row["wanted"], row["wanted_value"]) == ("80 %", None)
    metrics = holdfast(world.base / "root", "metrics").out
    assert 'holdfast_setting_drift{gpu="0"' in metrics and 'holdfast_setting_wanted{gpu="0"' not in metrics


# ---- changes by other programs ----------------------------------------------------


@one_backend
def test_with_the_policy_at_open_a_manual_change_stays_and_is_shown(world, daemon, serve):
    service = serve("[gpu *]\npower-limit = 500\n", "--interval", "1")
    service.wait_applied(0)
    world.sim.ctl("set", gpu=world.gpus[0], power_limit_w=600)
    wait_until(lambda: service.state(0)["settings"][0]["differs"], "the service has noticed the difference", timeout=20)
    row = service.state(0)["settings"][0]
    assert (row["wanted"], row["actual"]) == ("500 W", "600 W") and "changed by another program" in row["reason"]
    assert settings_of(world)["power_limit_w"] == 600
    shown = command(world, "--json")
    assert shown.status == DIFFERS
    assert [gpu["settings"][0]["differs"] for gpu in shown.json("settings")["gpus"]] == [True, False]
    assert command(world, "apply", "--gpu", "0", "--config", service.config, "--nvml", LIBRARY).status == DONE
    wait_until(lambda: not service.state(0)["settings"][0]["differs"], "the setting is as wanted again", timeout=20)


@pytest.mark.parametrize("backend", ["kernel"])
def test_with_the_policy_enforce_a_setting_is_restored_once_no_client_has_the_gpu_open(world, daemon, serve):
    with world.sim.open_gpu(world.gpus[0]) as job:
        service = serve("[gpu *]\npower-limit = 500\nsettings-policy = enforce\n", "--interval", "1")
        service.wait_applied(0)
        world.sim.ctl("set", gpu=world.gpus[0], power_limit_w=600)
        wait_until(lambda: service.state(0)["settings"][0]["differs"], "the service has noticed the difference", timeout=20)
        assert f"(pid {job.pid}) has the GPU open" in service.state(0)["settings"][0]["reason"]
        assert settings_of(world)["power_limit_w"] == 600
        job.stdin.close()
    wait_until(lambda: settings_of(world)["power_limit_w"] == 500, "the setting is restored", timeout=20)


# ---- hooks ------------------------------------------------------------------------


@one_backend
def test_hooks_run_in_order_for_each_event(world, daemon, serve):
    root = world.base / "root"
    record = world.base / "record"
    line = f'echo "$0 $EVENT $GPU_INDEX $GPU_ADDRESS $GPU_UUID $REASON" >>{record}'
    put_hook(root, "10-first", line)
    put_hook(root, "20-second", f"{line}; echo said by the hook")
    put_hook(root, "30-off", line, mode=0o644)
    service = serve("[gpu *]\npower-limit = 500\n[gpu 1]\n")
    uuid = service.wait_applied(0)["uuid"]

    def seen(event, index="0"):
        lines = record.read_text().splitlines() if record.exists() else []
        return [line.split()[0].rsplit("/", 1)[1] for line in lines if line.split()[1:3] == [event, index]]

    wait_until(lambda: seen("held") == ["10-first", "20-second"], "both hooks have run for held", timeout=20)
    service.log.wait_for("^said by the hook$", timeout=20)
    assert f"held 0 {world.gpus[0]} {uuid} opened anew" in record.read_text()
    assert holdfast(root, "release", "--gpu", "0", "--", "true").status == DONE
    for event in ("lease-begun", "released", "lease-ended"):
        wait_until(lambda: seen(event) == ["10-first", "20-second"], f"both hooks have run for {event}", timeout=20)
    wait_until(lambda: len(seen("held")) == 4, "both hooks have run for held again", timeout=20)
    assert f"released 0 {world.gpus[0]} {uuid} leased" in record.read_text()
    wait_until(lambda: len(seen("held", "1")) == 2, "both hooks have run for the other GPU", timeout=20)
    assert not seen("released", "1")


@one_backend
def test_a_hook_that_fails_or_that_others_can_write_is_shown(world, daemon, serve):
    root = world.base / "root"
    put_hook(root, "10-fails", "exit 3")
    put_hook(root, "20-everybodys", "touch /dev/null", mode=0o777)
    service = serve("[gpu *]\n")
    service.log.wait_for(r"GPU 0 .*: hook 10-fails failed at event held: exit status 3", timeout=20)
    wait_until(lambda: len(service.state(0)["hooks"]) == 2, "the state has both hooks", timeout=20)
    rows = {row["name"]: row["failure"] for row in service.state(0)["hooks"]}
    assert rows == {"10-fails": "exit status 3",
                    "20-everybodys": "not run: users other than root can write to this file"}
    shown = command(world)
    assert shown.status == DIFFERS and "hook 10-fails failed at event held: exit status 3" in shown.out


@one_backend
def test_a_hook_that_does_not_end_is_killed_with_its_children(world, daemon, serve):
    root, pids = world.base / "root", world.base / "pids"
    put_hook(root, "10-hangs", f"sleep 1000 & echo $! >{pids}-$GPU_INDEX; sleep 1000")
    put_hook(root, "20-after", f"touch {world.base}/after-$GPU_INDEX")
    service = serve("[gpu *]\n", "--hook-timeout", "1")
    for index in (0, 1):
        service.wait_applied(index)
        wait_until(lambda index=index: len(service.state(index)["hooks"]) == 2, "the state has both hooks", timeout=20)
        rows = {row["name"]: row["failure"] for row in service.state(index)["hooks"]}
        assert rows == {"10-hangs": "killed after 1 s", "20-after": None}
        child = int((world.base / f"pids-{index}").read_text())
        wait_until(lambda child=child: not os.path.exists(f"/proc/{child}") or
                   Path(f"/proc/{child}/stat").read_text().split()[2] == "Z", "the hook's child has ended", timeout=20)


# ---- the command ------------------------------------------------------------------


@one_backend
def test_a_dry_run_of_settings_apply_changes_nothing_and_says_what_it_would_change(world, daemon):
    config = world.base / "holdfast.conf"
    config.write_text("[gpu 0]\npower-limit = 500\n")
    result = command(world, "apply", "--dry-run", "--json", "--config", config, "--nvml", LIBRARY)
    row, = result.json("settings")["gpus"][0]["settings"]
    assert result.status == DIFFERS and (row["wanted"], row["actual"]) == ("500 W", "700 W")
    assert row["reason"] == "would be changed" and settings_of(world) == DEFAULTS
    assert command(world, "apply", "--config", config, "--nvml", LIBRARY).status == DONE
    assert settings_of(world)["power_limit_w"] == 500
    assert command(world, "apply", "--config", config, "--nvml", LIBRARY, user=65534).status == NOT_PERMITTED


@one_backend
def test_without_the_service_holdfast_settings_says_that_it_does_not_run(world, daemon):
    config = world.base / "holdfast.conf"
    config.write_text("[gpu 0]\npower-limit = 80%\n")
    result = command(world, "--config", config)
    assert result.status == DIFFERS and "holdfast-settings.service does not run" in result.out and "80 %" in result.out
    config.write_text("")
    result = command(world, "--config", config)
    assert result.status == DONE and "No settings are wanted" in result.out
    config.write_text("[gpu 0]\npower = 5\n")
    result = command(world, "--config", config)
    assert result.status == DIFFERS and ":2: unknown key 'power' in [gpu 0]" in result.err


@one_backend
def test_settings_apply_does_not_open_a_gpu_that_is_not_held(world, daemon):
    config = world.base / "holdfast.conf"
    config.write_text("[gpu *]\npower-limit = 500\n")
    assert holdfast(world.base / "root", "set", "off").status == DONE
    opens = len(world.sim.journal("opened"))
    result = command(world, "apply", "--config", config, "--nvml", LIBRARY)
    assert result.status == DIFFERS and result.out.count("no process holds the GPU") == 2
    assert len(world.sim.journal("opened")) == opens
