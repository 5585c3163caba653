# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""holdfast bench: what a held GPU is worth, and that all are held again whatever happens."""

import contextlib
import json
import os
import re
import signal
import subprocess
import xml.etree.ElementTree

import pytest

from conftest import BUILD
from harness import events, process
from harness.command import PROGRAM, environment, holdfast
from harness.node import ScriptedDaemon
from harness.terminal import CTRL_C, on_terminal

DONE, FAILURE, USAGE, NO_DAEMON, NO_GPU, NOT_HELD_AGAIN = 0, 1, 2, 3, 5, 6
LIBRARY = BUILD / "tests/cuda/libcuda.so.1"

# Opens that last long enough to be met in the middle of.
SLOW = "lock = 1ms\ninit = 300ms\nteardown = 10ms\n"

pytestmark = [pytest.mark.holdfast_only("the command looks below a root"),
              pytest.mark.parametrize("backend", ["kernel"])]


@pytest.fixture
def daemon(world):
    """On two GPUs, both held."""
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


def test_cold_and_held_are_measured_in_turns_and_all_is_held_again(world, daemon):
    result = bench(world, "--count=3", "--json")
    assert result.status == DONE, result.err
    assert "2 of 2 GPUs held again" in result.err
    document = result.json("bench")
    assert document["model"] is True
    for gpu in range(2):
        cold, held = series(document, gpu)
        assert len(cold["times_ms"]) == len(held["times_ms"]) == 3
        assert min(cold["times_ms"]) >= 10, "the model's initialisation takes 10 ms"
        assert cold["median_ms"] == sorted(cold["times_ms"])[1] and cold["max_ms"] == max(cold["times_ms"])
        ratio = document["gpus"][gpu]["open"]["ratio"]
        assert ratio == pytest.approx(cold["median_ms"] / held["median_ms"])
    # Once by the daemon's start; then by each cold time, and by each end of a lease.
    assert initialisations(world) == [7, 7]
    assert are_held(world)


def test_cuda_is_measured_where_there_is_its_library(world, daemon):
    document = bench(world, "--count=2", "--gpu=1", "--cuda", LIBRARY, "--json").json("bench")
    cold, held = series(document, what="cuda")
    assert len(cold["times_ms"]) == len(held["times_ms"]) == 2
    assert document["cuda_missing"] is None and min(cold["times_ms"]) >= 10
    assert initialisations(world) == [1, 1 + 2 * 3]


def test_without_the_library_the_reason_is_said(world, daemon):
    result = bench(world, "--count=1", "--gpu=0")
    assert result.status == DONE and "cuda: with a simulated driver, name the library with --cuda" in result.out
    missing = bench(world, "--count=1", "--cuda=/nonexistent/libcuda.so.1")
    assert missing.status == FAILURE and "cannot load /nonexistent/libcuda.so.1" in missing.err
    wrong = bench(world, "--count=1", "--cuda", BUILD / "tests/nvml/libnvidia-ml.so.1")
    assert wrong.status == FAILURE and "it is not CUDA's library, or too old" in wrong.err
    assert initialisations(world) == [3, 1], "only the first of them made a GPU cold"


def test_held_only_makes_no_gpu_cold(world, daemon):
    result = bench(world, "--held-only", yes=False)
    assert result.status == DONE, result.err
    assert initialisations(world) == [1, 1] and world.sim.journal("torn-down") == []
    table = result.out.split("\n\n")[0].splitlines()[2:]
    assert [row.split()[:3] for row in table] == [["0", "open", "held"], ["1", "open", "held"]]


def test_people_are_told_what_the_times_are(world, daemon):
    text = bench(world, "--count=1", "--gpu=0", LC_ALL="C.UTF-8").out
    assert "The times are the simulated driver's model, not measured on a GPU." in text
    assert "only with each other, on this node" in text
    assert "MAD: median absolute deviation" in text
    assert re.search(r"^ +0  open +cold +\S+ (s|ms) +", text, re.M)
    assert re.search(r"^GPU 0 cold +◆", text, re.M) and re.search(r"^GPU 0 held +◆", text, re.M)


def test_the_plot_is_plain_where_the_terminal_is_and_as_wide(world, daemon):
    text = bench(world, "--count=1", "--gpu=0", LC_ALL="C", COLUMNS="60").out
    text.encode("ascii")
    axis = next(line for line in text.splitlines() if re.match(r" +\+-", line))
    assert len(axis) == 60 and max(map(len, text.split("logarithmic")[1].splitlines())) == 60
    assert re.search(r"^GPU 0 cold +#$", text, re.M)


def test_the_picture_stands_by_itself(world, daemon):
    file = world.base / "plot.svg"
    assert bench(world, "--count=2", "--gpu=0", "--svg", file, "--cuda", LIBRARY).status == DONE
    root = xml.etree.ElementTree.parse(file).getroot()
    kinds = [element.tag.split("}")[1] for element in root.iter()]
    assert kinds.count("circle") == 8, "two times of each kind in each state"
    fills = {element.get("fill") for element in root.iter() if element.tag.endswith("circle")}
    assert fills == {"black", "white"}
    text = " ".join(filter(None, (element.text for element in root.iter())))
    assert "time (logarithmic)" in text and "1 ms" in text and "model, not measured on a GPU" in text
    assert "href" not in file.read_text()


def test_a_picture_that_cannot_be_written_is_said_before_anything_is_done(world, daemon):
    result = bench(world, "--svg=/nonexistent/plot.svg")
    assert result.status == FAILURE and "cannot write /nonexistent/plot.svg: No such file" in result.err
    assert initialisations(world) == [1, 1]


# ---- what is no figure


def test_gpus_that_others_use_are_refused_with_their_names(world, daemon):
    with world.sim.open_gpu(world.gpus[1]) as job:
        result = bench(world)
        alone = bench(world, "--gpu=0", "--count=1")
        job.stdin.close()
    assert result.status == FAILURE
    assert re.search(rf"^  GPU 1 {world.gpus[1]}: .*\(pid {job.pid}, user root\)$", result.err, re.M), result.err
    assert "choose others with --gpu" in result.err
    assert alone.status == DONE
    assert initialisations(world) == [3, 1]


def test_a_gpu_that_somebody_opens_meanwhile_gives_no_time(world):
    """The job comes while the first cold open is under way, and stays."""
    world.simulate(2, SLOW)
    world.start()
    with benching(world, "--gpu=0", "--count=2", "--json") as child:
        world.sim.ctl("hang", gpu=0, which="open", on=True)  # until the job is there, however long that takes
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


def test_a_gpu_that_the_kernels_flag_keeps_is_not_cold_and_that_is_said(world, daemon):
    world.sim.ctl("legacy", gpu=world.gpus[0])
    result = bench(world, "--gpu=0", "--count=1")
    assert result.status == FAILURE
    assert "1 time of cold open not taken" in result.out and "initialised although nobody had it open" in result.out
    assert are_held(world)


def test_an_open_that_fails_is_no_time(world, daemon):
    world.sim.ctl("fail", gpu=world.gpus[0], count=1)
    result = bench(world, "--gpu=0", "--count=2")
    assert result.status == FAILURE
    assert "1 time of cold open not taken: cannot open" in result.out
    assert are_held(world)


# ---- may it be done


def test_without_a_terminal_somebody_must_have_said_yes(world, daemon):
    result = bench(world, yes=False)
    assert result.status == USAGE and "use --yes or --held-only" in result.err
    assert initialisations(world) == [1, 1]


@pytest.mark.parametrize("answer, goes_on", [(b"y\n", True), (b"Yes\n", True), (b"n\n", False), (b"\n", False),
                                             (b"\x04", False)])
def test_on_a_terminal_it_asks(world, daemon, answer, goes_on):
    with on_terminal(world.site.root, "bench", "--count=1", "--gpu=0") as terminal:
        terminal.wait_for("this makes 1 GPU cold")
        terminal.press(answer)
        assert terminal.wait(60) == (DONE if goes_on else FAILURE)
    assert initialisations(world) == ([3, 1] if goes_on else [1, 1])
    assert terminal.lines.has("nothing was done") != goes_on


@pytest.mark.parametrize("arguments", [("--count=0",), ("--count=1001",), ("--count=x",), ("word",)])
def test_wrong_usage_is_said(world, daemon, arguments):
    assert bench(world, *arguments).status == USAGE


def test_there_must_be_such_a_gpu(world, daemon):
    assert bench(world, "--gpu=7").status == NO_GPU


def test_an_ordinary_user_is_refused(world, daemon):
    program = world.base / "holdfast"
    program.write_bytes(PROGRAM.read_bytes())
    program.chmod(0o755)
    result = bench(world, program=program, user=process.NOBODY)
    assert result.status == FAILURE and "run it as root" in result.err
    assert initialisations(world) == [1, 1]


# ---- whatever happens


@contextlib.contextmanager
def benching(world, *arguments):
    command = [PROGRAM, "--root", world.site.root, "bench", "--yes", *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment()) as child:
        child.out, child.errors = events.Lines("its output", child.stdout), events.Lines("its errors", child.stderr)
        try:
            yield child
        finally:
            child.kill()


def wait_for_cold_open(world):
    """Until a GPU has been made cold, and is initialised again: by the command, and for so long as SLOW says."""
    events.wait_until(lambda: any(gpu["teardowns"] == 1 and gpu["initialising"] for gpu in world.sim.status()["gpus"]),
                      "a cold open under way", timeout=20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_in_order(world, number):
    world.simulate(2, SLOW)
    world.start()
    with benching(world, "--count=1000") as child:
        wait_for_cold_open(world)
        child.send_signal(number)
        assert child.wait(timeout=30) == 128 + number
        child.errors.wait_for("stopped by")
        child.errors.wait_for("2 of 2 GPUs held again")
    assert are_held(world)


def test_ctrl_c_stops_it_in_order(world):
    world.simulate(2, SLOW)
    world.start()
    with on_terminal(world.site.root, "bench", "--yes", "--count=1000") as terminal:
        wait_for_cold_open(world)
        terminal.press(CTRL_C)
        assert terminal.wait() == 128 + signal.SIGINT
        assert terminal.lines.has("2 of 2 GPUs held again")
    assert are_held(world)


def test_killed_it_leaves_every_gpu_held(world):
    world.simulate(2, SLOW)
    world.start()
    with benching(world, "--count=1000") as child:
        wait_for_cold_open(world)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=10)
    assert holdfast(world.site.root, "wait", "--timeout=20").status == 0
    events.wait_until(lambda: [gpu["usage_count"] for gpu in world.sim.status()["gpus"]] == [1, 1],
                      "nobody but the daemon", timeout=20)


def test_a_daemon_that_is_gone_is_said_within_the_time(world):
    world.simulate(2, SLOW)
    daemon = world.start()
    with benching(world, "--count=1000", "--timeout=2") as child:
        wait_for_cold_open(world)
        daemon.stop()
        assert child.wait(timeout=40) == NOT_HELD_AGAIN
        child.errors.wait_for("no persistence daemon is running")


# ---- other daemons, none


def test_without_a_daemon_it_holds_the_gpu_itself(world):
    world.simulate(2)
    result = bench(world, "--count=2", "--gpu=0")
    assert result.status == DONE, result.err
    assert 'No daemon runs: "held" means that a process of this command has the GPU open.' in result.out
    assert re.search(r"^ +0  open +held +.* +2 +", result.out, re.M)
    assert initialisations(world)[0] == 4, "two cold times, and two holds"
    events.wait_until(lambda: world.sim.gpu(world.gpus[0])["usage_count"] == 0, "nobody at the end")
    nothing = bench(world, "--held-only")
    assert nothing.status == NO_DAEMON and "--held-only has nothing to measure" in nothing.err


@contextlib.contextmanager
def nvidias_daemon(world):
    """One that keeps to NVIDIA's contract: it answers that its GPUs are held, and leaves the driver alone."""
    path = world.base / "root/run/nvidia-persistenced/socket"
    path.parent.mkdir()
    daemon = ScriptedDaemon(path, modes={address.rpartition(".")[0]: (0, 1) for address in world.gpus})
    try:
        yield daemon
    finally:
        daemon.stop()


def test_with_nvidias_daemon_the_mode_is_switched_off_and_on(world):
    world.simulate(2)
    with nvidias_daemon(world) as daemon:
        result = bench(world, "--count=2", "--gpu=1")
    assert result.status == DONE, result.err
    address = world.gpus[1].rpartition(".")[0]
    assert daemon.sets == [(address, 0), (address, 1)] * 2 + [(address, 1)]
    assert "1 of 1 GPU held again" in result.err


def test_with_nvidias_daemon_a_signal_leaves_the_mode_on(world):
    world.simulate(2, SLOW)
    with nvidias_daemon(world) as daemon:
        with benching(world, "--count=1000") as child:
            events.wait_until(lambda: any(gpu["initialising"] for gpu in world.sim.status()["gpus"]), "a cold open",
                              timeout=20)
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=30) == 128 + signal.SIGTERM
            child.errors.wait_for("2 of 2 GPUs held again")
    assert dict(daemon.sets) == {address.rpartition(".")[0]: 1 for address in world.gpus}


def test_with_nvidias_daemon_it_is_said_what_a_kill_would_leave(world):
    world.simulate(2)
    with nvidias_daemon(world), on_terminal(world.site.root, "bench") as terminal:
        terminal.wait_for("NVIDIA's daemon has no leases")
        terminal.press(b"n\n")
        assert terminal.wait() == FAILURE


def test_gpus_that_the_daemon_does_not_hold_have_cold_times_only(world, daemon):
    assert holdfast(world.site.root, "set", "off", "--gpu=1").status == 0
    result = bench(world, "--count=1", "--gpu=1")
    assert result.status == FAILURE
    assert "1 time of held open not taken: the daemon does not hold it: 'holdfast set on' first" in result.out
    events.wait_until(lambda: not world.sim.gpu(world.gpus[1])["initialised"], "it is left as it was")
