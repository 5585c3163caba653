# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast bench measures what a held GPU saves, and holds all GPUs again whatever happens."""

import contextlib
import json
import os
import re
import signal
import subprocess

import pytest

from conftest import BUILD
from harness import events, process
from harness.command import PROGRAM, environment, holdfast
from harness.node import ScriptedDaemon
from harness.terminal import CTRL_C, on_terminal

DONE, FAILURE, USAGE, NO_DAEMON, NO_GPU, NOT_HELD_AGAIN = 0, 1, 2, 3, 5, 6
LIBRARY = BUILD / "tests/cuda/libcuda.so.1"

# Opens that last long enough for a test to act during one.
SLOW = "lock = 1ms\ninit = 300ms\nteardown = 10ms\n"

pytestmark = [pytest.mark.holdfast_only("the command reads files below --root"),
              pytest.mark.parametrize("backend", ["kernel"])]


@pytest.fixture
def daemon(world):
    """The daemon, holding two GPUs."""
    world.simulate(gpus=2)
    return world.start()


def bench(world, *arguments, yes=True, **how):
    return holdfast(world.site.root, "bench", *(["--yes"] if yes else []), *arguments,
                    HOLDFAST_ROOT=str(world.site.root), timeout=60, **how)


def initialisations(world):
    return [gpu["initialisations"] for gpu in world.sim.status()["gpus"]]


def are_held(world):
    return holdfast(world.site.root, "check", "--min-gpus=2").status == 0


def series(document, gpu=0, what="open"):
    return [document["gpus"][gpu][what][state] for state in ("cold", "held")]


# ---- the figures


def test_cold_and_held_opens_are_measured_in_turns_and_all_gpus_are_held_again(world, daemon):
    result = bench(world, "--count=3", "--json")
    assert result.status == DONE, result.out + result.err
    assert "2 of 2 GPUs held again" in result.err
    document = result.json("bench")
    assert document["model"] is True
    for gpu in range(2):
        cold, held = series(document, gpu)
        assert len(cold["times_ms"]) == len(held["times_ms"]) == 3
        assert min(cold["times_ms"]) >= 10, "the simulated initialisation takes 10 ms"
        assert cold["median_ms"] == sorted(cold["times_ms"])[1] and cold["max_ms"] == max(cold["times_ms"])
        ratio = document["gpus"][gpu]["open"]["ratio"]
        assert ratio == pytest.approx(cold["median_ms"] / held["median_ms"])
    # One at the daemon's start, then one for each cold time and one at the end of each lease.
    assert initialisations(world) == [7, 7]
    assert are_held(world)


def test_cuda_is_measured_if_its_library_is_found(world, daemon):
    document = bench(world, "--count=2", "--gpu=1", "--cuda", LIBRARY, "--json").json("bench")
    cold, held = series(document, what="cuda")
    assert len(cold["times_ms"]) == len(held["times_ms"]) == 2
    assert document["cuda_missing"] is None and min(cold["times_ms"]) >= 10
    assert initialisations(world) == [1, 1 + 2 * 3]


def test_without_cudas_library_bench_prints_the_reason(world, daemon):
    result = bench(world, "--count=1", "--gpu=0")
    assert result.status == DONE and "cuda: with a simulated driver, name the library with --cuda" in result.out
    missing = bench(world, "--count=1", "--cuda=/nonexistent/libcuda.so.1")
    assert missing.status == FAILURE and "cannot load /nonexistent/libcuda.so.1" in missing.err
    wrong = bench(world, "--count=1", "--cuda", BUILD / "tests/nvml/libnvidia-ml.so.1")
    assert wrong.status == FAILURE and "it is not CUDA's library, or too old" in wrong.err
    assert initialisations(world) == [3, 1], "only the first command may make a GPU cold"


def test_held_only_makes_no_gpu_cold(world, daemon):
    result = bench(world, "--held-only", yes=False)
    assert result.status == DONE, result.out + result.err
    assert initialisations(world) == [1, 1] and world.sim.journal("torn-down") == []
    table = result.out.split("\n\n")[0].splitlines()[2:]
    assert [row.split()[:3] for row in table] == [["0", "open", "held"], ["1", "open", "held"]]


def test_the_text_explains_what_the_times_are(world, daemon):
    text = bench(world, "--count=1", "--gpu=0", LC_ALL="C.UTF-8").out
    assert "The times are the simulated driver's model, not measured on a GPU." in text
    assert "only with each other, on this node" in text
    assert "MAD: median absolute deviation" in text
    assert re.search(r"^ +0  open +cold +\S+ (s|ms) +", text, re.M)
    assert re.search(r"^GPU 0 cold +◆", text, re.M) and re.search(r"^GPU 0 held +◆", text, re.M)


def test_the_plot_is_ascii_in_the_c_locale_and_as_wide_as_the_terminal(world, daemon):
    text = bench(world, "--count=1", "--gpu=0", LC_ALL="C", COLUMNS="60").out
    text.encode("ascii")
    axis = next(line for line in text.splitlines() if re.match(r" +\+-", line))
    assert len(axis) == 60 and max(map(len, text.split("logarithmic")[1].splitlines())) == 60
    assert re.search(r"^GPU 0 cold +#$", text, re.M)


# ---- times that do not count


def test_bench_refuses_gpus_in_use_and_names_the_processes(world, daemon):
    with world.sim.open_gpu(world.gpus[1]) as job:
        result = bench(world)
        alone = bench(world, "--gpu=0", "--count=1")
        job.stdin.close()
    assert result.status == FAILURE
    assert re.search(rf"^  GPU 1 {world.gpus[1]}: .*\(pid {job.pid}, user root\)$", result.err, re.M), result.err
    assert "choose others with --gpu" in result.err
    assert alone.status == DONE
    assert initialisations(world) == [3, 1]


def test_times_of_a_gpu_that_another_process_opens_meanwhile_are_discarded(world):
    """A job opens the GPU during the first cold open, and keeps it open."""
    world.simulate(2, SLOW)
    world.start()
    with benching(world, "--gpu=0", "--count=2", "--json") as child:
        world.sim.ctl("hang", gpu=0, which="open", on=True)  # until the job has the GPU open, however long that takes
        wait_for_cold_open(world)
        with world.sim.open_gpu(world.gpus[0], os.O_NONBLOCK) as job:
            world.sim.ctl("hang", gpu=0, which="open", on=False)
            child.wait(timeout=60)
            job.stdin.close()
        child.out.wait_end(5)
    cold, held = series(json.loads(child.out.text()))
    assert child.returncode == FAILURE
    assert cold["discarded"] == 2 and cold["times_ms"] == [] and f"(pid {job.pid}) had it open" in cold["discarded_reason"]
    assert len(held["times_ms"]) == 2
    assert are_held(world)


def test_a_gpu_that_the_kernel_flag_keeps_gives_no_cold_time_and_a_reason(world, daemon):
    world.sim.ctl("legacy", gpu=world.gpus[0])
    result = bench(world, "--gpu=0", "--count=1")
    assert result.status == FAILURE
    assert "1 measurement of cold open discarded" in result.out and "initialised although nobody had it open" in result.out
    assert are_held(world)


def test_an_open_that_fails_gives_no_time(world, daemon):
    world.sim.ctl("fail", gpu=world.gpus[0], count=1)
    result = bench(world, "--gpu=0", "--count=2")
    assert result.status == FAILURE
    assert "1 measurement of cold open discarded: cannot open" in result.out
    assert are_held(world)


# ---- permission and usage


def test_without_a_terminal_bench_needs_yes(world, daemon):
    result = bench(world, yes=False)
    assert result.status == USAGE and "use --yes or --held-only" in result.err
    assert initialisations(world) == [1, 1]


@pytest.mark.parametrize("answer, goes_on", [(b"y\n", True), (b"Yes\n", True), (b"n\n", False), (b"\n", False),
                                             (b"\x04", False)])
def test_on_a_terminal_bench_asks_before_it_makes_a_gpu_cold(world, daemon, answer, goes_on):
    with on_terminal(world.site.root, "bench", "--count=1", "--gpu=0") as terminal:
        terminal.wait_for("this makes 1 GPU cold")
        terminal.press(answer)
        assert terminal.wait(60) == (DONE if goes_on else FAILURE)
    assert initialisations(world) == ([3, 1] if goes_on else [1, 1])
    assert terminal.lines.has("nothing was done") != goes_on


@pytest.mark.parametrize("arguments", [("--count=0",), ("--count=1001",), ("--count=x",), ("word",)])
def test_wrong_usage_of_bench_has_its_exit_status(world, daemon, arguments):
    assert bench(world, *arguments).status == USAGE


def test_bench_refuses_a_gpu_that_does_not_exist(world, daemon):
    assert bench(world, "--gpu=7").status == NO_GPU


def test_bench_refuses_an_ordinary_user(world, daemon):
    program = world.base / "holdfast"
    program.write_bytes(PROGRAM.read_bytes())
    program.chmod(0o755)
    result = bench(world, program=program, user=process.NOBODY)
    assert result.status == FAILURE and "run it as root" in result.err
    assert initialisations(world) == [1, 1]


# ---- signals and failures


@contextlib.contextmanager
def benching(world, *arguments):
    command = [PROGRAM, "--root", world.site.root, "bench", "--yes", *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment()) as child:
        child.out = events.Lines("the output of holdfast bench", child.stdout)
        child.errors = events.Lines("the errors of holdfast bench", child.stderr)
        try:
            yield child
        finally:
            child.kill()


def wait_for_cold_open(world):
    """Waits until the command has made a GPU cold and is initialising it again."""
    events.wait_until(lambda: any(gpu["teardowns"] == 1 and gpu["initialising"] for gpu in world.sim.status()["gpus"]),
                      "a cold open is in progress", timeout=20)


def test_a_gpu_that_is_switched_off_meanwhile_gives_no_held_time(world):
    world.simulate(2, SLOW)
    world.start()
    with benching(world, "--count=1", "--gpu=0") as child:
        wait_for_cold_open(world)
        assert holdfast(world.site.root, "set", "off", "--gpu=0").status == 0
        assert child.wait(timeout=30) == FAILURE
        child.out.wait_for("1 measurement of held open discarded: the daemon does not hold it any more")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_after_a_signal_bench_stops_and_all_gpus_are_held_again(world, number):
    world.simulate(2, SLOW)
    world.start()
    with benching(world, "--count=1000") as child:
        wait_for_cold_open(world)
        child.send_signal(number)
        assert child.wait(timeout=30) == 128 + number
        child.errors.wait_for("stopped by")
        child.errors.wait_for("2 of 2 GPUs held again")
    assert are_held(world)


def test_after_ctrl_c_bench_stops_and_all_gpus_are_held_again(world):
    world.simulate(2, SLOW)
    world.start()
    with on_terminal(world.site.root, "bench", "--yes", "--count=1000") as terminal:
        wait_for_cold_open(world)
        terminal.press(CTRL_C)
        assert terminal.wait() == 128 + signal.SIGINT
        assert terminal.lines.has("2 of 2 GPUs held again")
    assert are_held(world)


def test_after_a_kill_of_bench_all_gpus_are_held_again(world):
    world.simulate(2, SLOW)
    world.start()
    with benching(world, "--count=1000") as child:
        wait_for_cold_open(world)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=10)
    assert holdfast(world.site.root, "wait", "--timeout=20").status == 0
    world.sim.wait_users(1, 1)


def test_bench_reports_within_its_timeout_that_the_daemon_has_gone(world):
    world.simulate(2, SLOW)
    daemon = world.start()
    with benching(world, "--count=1000", "--timeout=2") as child:
        wait_for_cold_open(world)
        daemon.stop()
        assert child.wait(timeout=40) == NOT_HELD_AGAIN
        child.errors.wait_for("no persistence daemon is running")


# ---- NVIDIA's daemon, or none


def test_without_a_daemon_bench_holds_the_gpu_itself(world):
    world.simulate(2)
    result = bench(world, "--count=2", "--gpu=0")
    assert result.status == DONE, result.out + result.err
    assert 'No daemon runs: "held" means that a process of this command has the GPU open.' in result.out
    assert re.search(r"^ +0  open +held +.* +2 +", result.out, re.M)
    assert initialisations(world)[0] == 4, "expected two cold times and two holds"
    events.wait_until(lambda: world.sim.gpu(world.gpus[0])["usage_count"] == 0, "no process has the GPU open at the end")
    nothing = bench(world, "--held-only")
    assert nothing.status == NO_DAEMON and "--held-only has nothing to measure" in nothing.err


@contextlib.contextmanager
def nvidias_daemon(world):
    """A scripted daemon with NVIDIA's RPC program. It reports its GPUs as held, and does not open them."""
    path = world.base / "root/run/nvidia-persistenced/socket"
    path.parent.mkdir()
    daemon = ScriptedDaemon(path, modes={address.rpartition(".")[0]: (0, 1) for address in world.gpus})
    try:
        yield daemon
    finally:
        daemon.stop()


def test_with_nvidias_daemon_bench_switches_the_mode_off_and_on(world):
    world.simulate(2)
    with nvidias_daemon(world) as daemon:
        result = bench(world, "--count=2", "--gpu=1")
    assert result.status == DONE, result.out + result.err
    address = world.gpus[1].rpartition(".")[0]
    assert daemon.sets == [(address, 0), (address, 1)] * 2 + [(address, 1)]
    assert "1 of 1 GPU held again" in result.err


def test_with_nvidias_daemon_a_signal_leaves_the_mode_on(world):
    world.simulate(2, SLOW)
    with nvidias_daemon(world) as daemon:
        with benching(world, "--count=1000") as child:
            events.wait_until(lambda: any(gpu["initialising"] for gpu in world.sim.status()["gpus"]),
                              "a cold open is in progress", timeout=20)
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=30) == 128 + signal.SIGTERM
            child.errors.wait_for("2 of 2 GPUs held again")
    assert dict(daemon.sets) == {address.rpartition(".")[0]: 1 for address in world.gpus}


def test_with_nvidias_daemon_bench_warns_what_a_kill_would_leave(world):
    world.simulate(2)
    with nvidias_daemon(world), on_terminal(world.site.root, "bench") as terminal:
        terminal.wait_for("NVIDIA's daemon has no leases")
        terminal.press(b"n\n")
        assert terminal.wait() == FAILURE


def test_gpus_that_the_daemon_does_not_hold_have_only_cold_times(world, daemon):
    assert holdfast(world.site.root, "set", "off", "--gpu=1").status == 0
    result = bench(world, "--count=1", "--gpu=1")
    assert result.status == FAILURE
    assert "1 measurement of held open discarded: the daemon does not hold it: 'holdfast set on' first" in result.out
    events.wait_until(lambda: not world.sim.gpu(world.gpus[1])["initialised"], "the GPU is cold again, as before")
