# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The checks. Each returns its evidence as text, or raises Failed or NotPossible with it."""

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from harness import events, holdfast_rpc, process, rpc

from . import attacks, latency, nvml, settings
from .daemon import Theirs, is_nvidias
from .record import Failed, NotPossible, expect

OPENS_COLD, OPENS_WARM = 3, 20  # an open that initialises the GPU takes a second or more
CONTRACT_STOP_SEC = 5
SETTLE_SEC = 10
UVM_SEC = 60  # NVLink's fabric may be slow
CAP_DAC_OVERRIDE, CAP_SYS_ADMIN = 1, 21


# ---- without a daemon


def opens_are_timed(setting):
    said = []
    for gpu in setting.machine.usable:
        warm = setting.machine.is_initialised(gpu)
        lines = setting.probe("opens", gpu.address, OPENS_WARM if warm else OPENS_COLD)
        pairs = [tuple(map(int, line.split())) for line in lines]
        opens, closes = ([pair[side] for pair in pairs] for side in (0, 1))
        figures = {"was initialised": warm, "open_usec": opens, "close_usec": closes}
        setting.record.figures[f"open and close of {gpu.address}, without our daemon"] = figures
        said.append(f"{gpu.address} ({'initialised' if warm else 'cold' if warm is False else 'state unknown'} before): "
                    f"open median {statistics.median(opens)} us, close median {statistics.median(closes)} us, "
                    f"{len(pairs)} times")
    return "; ".join(said)


def notices_can_be_subscribed(setting, user=None):
    if user:
        setting.require_nobody()
    words = setting.probe("notices", user=user)[0].split()
    setting.has_notices = True
    pending, before, during, after = int(words[1]), *map(int, words[3:])
    expect((pending, during - before, after) == (0, 2, before),
           f"{pending} notices although nothing was bound; descriptors {before}, then {during}, then {after}")
    return "subscribed with 2 descriptors, no notice pending, both closed again"


def legacy_flag_is_answered(setting):
    said = []
    for gpu in setting.machine.usable:
        closed, opened = setting.probe("legacy", gpu.address)
        setting.legacy[gpu.address] = opened == "open: on"
        expect(closed != "closed: answered", f"{gpu.address}: the driver answered without an open node")
        said.append(f"{gpu.address}: {opened.removeprefix('open: ')} ({closed})")
    return "; ".join(said)


def legacy_flag_agrees_with_smi(setting):
    if (setting.machine.runtime_directory / "socket").exists():
        raise NotPossible("nvidia-smi also asks another daemon, so it does not report the flag alone")
    told = setting.smi.persistence()
    wrong = [f"{address}: the flag is {'on' if flag else 'off'}, nvidia-smi reports {told.get(address)}"
             for address, flag in setting.legacy.items() if (told.get(address) == "Enabled") != flag]
    expect(setting.legacy and not wrong, "; ".join(wrong) or "no flag could be read")
    return f"nvidia-smi: {told}"


# ---- any daemon of ours


def holds_every_gpu(setting, daemon):
    told = {gpu.address: daemon.gpu(gpu.address) for gpu in setting.machine.usable}
    lost = [f"{address}: state {gpu['state']} {gpu['error_text']}" for address, gpu in told.items() if gpu["state"] != holdfast_rpc.HELD]
    expect(not lost, "; ".join(lost))
    said = [f"{address} opened in {gpu['open_duration']} us" for address, gpu in told.items()]
    return f"ready {daemon.ready_sec:.3f} s after its start; {'; '.join(said)}"


def nodes_expected(setting, daemon):
    """Returns the nodes that the daemon must have open: each GPU's once, and UVM's once for each registered GPU."""
    gpus = setting.machine.usable
    with_uvm = sum(daemon.gpu(gpu.address)["uvm"] == holdfast_rpc.UVM_ON for gpu in gpus)
    return {gpu.node.name: 1 for gpu in gpus} | ({"nvidia-uvm": with_uvm} if with_uvm else {})


def nodes_of(setting, daemon):
    """Returns the daemon's open nodes, without those of unusable GPUs: it retries these, and may have them open briefly."""
    tried = {gpu.node.name for gpu in setting.machine.gpus} - {gpu.node.name for gpu in setting.machine.usable}
    return {name: count for name, count in daemon.nodes().items() if name not in tried}


def has_the_right_nodes(setting, daemon):
    nodes, expected = nodes_of(setting, daemon), nodes_expected(setting, daemon)
    expect(nodes == expected, f"open are {nodes}, expected {expected}")
    return f"/proc/{daemon.pid}/fd has {expected}"


def hears_of_unbinds(setting, daemon):
    """With bind notices the daemon has nvidiactl open twice. A question to the driver adds a third descriptor briefly."""
    expected = 2 if setting.has_notices else 0
    try:
        events.wait_until(lambda: daemon.controls() == expected, f"{expected} x nvidiactl", SETTLE_SEC)
    except AssertionError:
        raise Failed(f"{daemon.controls()} x nvidiactl is open, expected {expected}") from None
    return f"{expected} x nvidiactl is open; the driver {'has' if expected else 'has no'} bind notices"


def numbers_are_the_drivers(setting, daemon):
    if setting.machine.simulated:
        raise NotPossible("a simulated node is a file")
    numbers = {gpu.node.name: os.makedev(195, gpu.minor) for gpu in setting.machine.usable}
    found = {}
    for fd, target in process.open_files(daemon.pid).items():
        if Path(target).name in numbers:
            found[Path(target).name] = os.stat(f"/proc/{daemon.pid}/fd/{fd}").st_rdev
    expect(found and all(numbers[name] == number for name, number in found.items()), f"found {found}, expected {numbers}")
    return ", ".join(f"{name} is {os.major(number)}:{os.minor(number)}" for name, number in found.items())


def is_initialised(setting, _daemon):
    states = {gpu.address: setting.machine.is_initialised(gpu) for gpu in setting.machine.usable}
    if None in states.values():
        raise NotPossible(f"the driver does not report it: {states}")
    expect(all(states.values()), f"not initialised although held: {states}")
    return f"the driver's power file says so: {', '.join(states)}"


def has_no_privilege(setting, daemon):
    """As root the daemon may need one capability for a folder of another user, and with NUMA memory one for the driver."""
    fields = daemon.fields()
    numa = any(setting.machine.has_numa_memory(gpu) for gpu in setting.machine.usable)
    needed = {CAP_DAC_OVERRIDE} | ({CAP_SYS_ADMIN} if numa else set())
    allowed = sum(1 << capability for capability in needed) if fields["Uid"].split()[0] == "0" else 0
    text = ", ".join(f"{name} {fields.get(name)}" for name in ("Uid", "CapEff", "NoNewPrivs", "Seccomp", "Threads"))
    expect(int(fields["CapEff"], 16) & ~allowed == 0, f"it kept capabilities: {text}")
    return text


# ---- the command


def command(setting, daemon, *arguments):
    folder = daemon.runtime_directory
    root = [] if folder.is_relative_to("/var/run") else ["--root", folder.parent.parent]
    return setting.run("command", *arguments[:1], *root, *arguments[1:])


def status_tells_the_holds(setting, daemon):
    command(setting, daemon, "status")
    done = command(setting, daemon, "status", "--json")
    document = json.loads(done.stdout)
    held = {gpu["address"] for gpu in document["gpus"] if gpu["held"]}
    listed = {gpu.address for gpu in setting.machine.usable}
    expect(document["daemon"]["pid"] == daemon.pid and listed <= held, f"daemon {document['daemon']}, held {held}")
    return f"{document['held']} of {document['count']} held, the daemon is {daemon.pid}"


def check_has_the_right_status(setting, daemon):
    done = command(setting, daemon, "check")
    expect(len(setting.machine.usable) != len(setting.machine.gpus) or done.returncode == 0, done.stdout + done.stderr)
    expect(done.returncode in (0, 1, 2), done.stdout + done.stderr)
    return f"{done.stdout.strip()} (exit status {done.returncode})"


def clients_has_the_daemon(setting, daemon):
    command(setting, daemon, "clients")
    done = command(setting, daemon, "clients", "--json")
    expect(done.returncode == 0 and re.search(rf'"pid": {daemon.pid}\b', done.stdout),
           f"exit status {done.returncode}: {done.stdout}{done.stderr}")
    return f"process {daemon.pid} is among them"


def doctor_exits_with_the_number_of_problems(setting, daemon):
    command(setting, daemon, "doctor")
    done = command(setting, daemon, "doctor", "--json")
    document = json.loads(done.stdout)
    found = [probe["id"] for probe in document["checks"] if probe["verdict"] == "problem"]
    expect(done.returncode == min(len(found), 100), f"exit status {done.returncode}, problems {found}")
    return f"{len(document['checks'])} checks, {document['cannot_tell']} of them unknown; problems: {', '.join(found) or 'none'}"


def metrics_count_the_holds(setting, daemon):
    done = command(setting, daemon, "metrics")
    expect(done.returncode == 0 and "holdfast_" in done.stdout, f"exit status {done.returncode}: {done.stderr}")
    return f"{sum(not line.startswith('#') for line in done.stdout.splitlines())} values"


def settings_are_what_smi_tells(setting, daemon):
    """With --dry-run the command only reads, and applies nothing of the file."""
    if not setting.settings:
        raise NotPossible("nvidia-smi did not report the settings before")
    wanted = setting.folder / "wanted.conf"
    wanted.write_text(settings.WANTED)
    done = command(setting, daemon, "settings", "apply", "--dry-run", "--json", "--config", wanted, "--nvml", setting.nvml)
    gpus = {gpu["address"]: gpu for gpu in json.loads(done.stdout)["gpus"]}
    said = []
    for address in (gpu.address for gpu in setting.machine.usable):
        if gpus[address]["problem"]:
            raise NotPossible(f"{address}: {gpus[address]['problem']}")
        rows = {row["name"]: row["actual"] for row in gpus[address]["settings"]}
        told = settings.as_holdfast_tells(setting.settings[address])
        if not told:
            raise NotPossible(f"{address}: nvidia-smi has none of these settings")
        expect(all(rows[name] == value for name, value in told.items()), f"{address}: we read {rows}, nvidia-smi {told}")
        said.append(f"{address}: {', '.join(f'{name} {value}' for name, value in told.items())}")
    return "; ".join(said)


# ---- Get and Set


def anybody_may_ask(setting, daemon):
    setting.require_nobody()
    told = {gpu.address: attacks.as_nobody(attacks.get, daemon.socket, gpu.address) for gpu in setting.machine.usable}
    expect(set(told.values()) == {str((rpc.SUCCESS, rpc.ENABLED))}, f"the user nobody received {told}")
    return f"(status, mode) {told}"


def the_user_nobody_may_not_set(setting, daemon):
    setting.require_nobody()
    address = setting.machine.usable[0].address
    status = attacks.as_nobody(attacks.set_off, daemon.socket, address)
    expect(status == str(rpc.PERMISSIONS) and daemon.get(address) == (rpc.SUCCESS, rpc.ENABLED),
           f"the answer is {status}, and then {daemon.get(address)}")
    return f"status {status} (PERMISSIONS), and the GPU stays held"


def set_mode(daemon, address, mode):
    with daemon.connect(timeout=120) as connection:  # a teardown can take seconds
        status = connection.set(address, mode)
    expect(status == rpc.SUCCESS, f"Set {mode} of {address} is answered with status {status}")


def set_lets_go_and_holds_again(setting, daemon):
    """This affects only our own descriptor, not the kernel's flag and not other users of the GPU."""
    setting.require_safe_release()
    gpu = setting.machine.usable[0]
    before = nodes_of(setting, daemon)
    try:
        set_mode(daemon, gpu.address, rpc.DISABLED)
        during, told = nodes_of(setting, daemon), daemon.get(gpu.address)
    finally:
        set_mode(daemon, gpu.address, rpc.ENABLED)
    expect(gpu.node.name not in during and told == (rpc.SUCCESS, rpc.DISABLED), f"after Set off: {during}, Get {told}")
    expect(nodes_of(setting, daemon) == before, f"before {before}, after off and on {nodes_of(setting, daemon)}")
    return f"off: {during}; on again: {before}; opened in {daemon.gpu(gpu.address)['open_duration']} us"


# ---- attacks


def survives(setting, daemon, attack):
    setting.require_nobody()
    address = setting.machine.usable[0].address
    before = nodes_of(setting, daemon)
    attacks.as_nobody(attack, daemon.socket, address)
    expect(daemon.is_running(), f"the daemon died; its log: {daemon.log.text()[-500:]}")
    expect(daemon.get(address) == (rpc.SUCCESS, rpc.ENABLED), f"an honest client receives {daemon.get(address)}")
    expect(nodes_of(setting, daemon) == before, f"before {before}, after {nodes_of(setting, daemon)}")
    return "an honest client is served, and every GPU is still held"


# ---- latency


def measured(setting, title, servers):
    address = setting.machine.usable[0].address
    with latency.echo_server(setting.programs["echo"], setting.folder / "echo") as echo:
        figures = latency.compare(setting.programs["latency"], {"echo server": echo} | servers, address, setting.calls)
    setting.record.figures[title] = figures
    return latency.sentence(figures, "echo server")


def answers_quickly(setting, daemon):
    return measured(setting, "Get against an echo server", {"ours": daemon.socket})


def is_served(path):
    try:
        with rpc.Connection(path) as connection:
            return connection.null(1) == []
    except (OSError, EOFError):
        return False


def compared_with_nvidias(setting, daemon):
    """Ours runs below a root of links (docs/hardware.md), the other daemon at the real paths. If none runs
    there, this starts NVIDIA's."""
    running = setting.machine.runtime_directory / "socket"
    if running.exists():
        if not is_served(running):
            raise NotPossible(f"no daemon answers at {running}. The trial does not remove that socket")
        return measured(setting, "Get against the daemon that runs here", {"ours": daemon.socket, "running": running})
    if not setting.peer:
        raise NotPossible("there is no nvidia-persistenced in PATH or PEER, and none runs")
    if not is_nvidias(setting.peer):
        raise NotPossible(f"{setting.peer} is Holdfast's")
    setting.require_real_paths()
    was_there = setting.machine.runtime_directory.exists()
    try:
        with Theirs(setting.peer, setting.machine.runtime_directory) as theirs:
            return f"{measured(setting, 'Get against NVIDIA', {'ours': daemon.socket, 'NVIDIA': theirs.socket})}; " \
                   f"NVIDIA's has {theirs.nodes()} open"
    finally:
        setting.clear_real_paths(was_there)


# ---- UVM


def registered(setting):
    return {gpu.address: setting.machine.is_registered(gpu) for gpu in setting.machine.usable}


def uvm_is_on(setting, daemon):
    def settled():
        return all(daemon.gpu(gpu.address)["uvm"] == holdfast_rpc.UVM_ON for gpu in setting.machine.usable)
    try:
        events.wait_until(settled, "UVM persistence of every GPU", UVM_SEC)
    except AssertionError:
        texts = "; ".join(gpu["uvm_text"] for gpu in daemon.list()["gpus"] if gpu["uvm_text"])
        raise Failed(f"not registered within {UVM_SEC} s: {texts}") from None
    there = registered(setting)
    expect(False not in there.values(), f"/proc/driver/nvidia-uvm/gpus has {there}")
    seen = "according to the driver's list" if all(there.values()) else "the driver's list is not visible here"
    return f"registered: {', '.join(there)} ({seen}); open are {daemon.nodes()}"


def uvm_goes_with_a_set(setting, daemon):
    setting.require_safe_release()
    gpu = setting.machine.usable[0]
    others = setting.uvm_before[gpu.address]
    try:
        set_mode(daemon, gpu.address, rpc.DISABLED)
        during, there = daemon.nodes(), setting.machine.is_registered(gpu)
    finally:
        set_mode(daemon, gpu.address, rpc.ENABLED)
    expect(others or not there, f"{gpu.address} is still registered")
    return f"off: {'another client has it registered' if others else 'not registered'}, open are {during}; " \
           f"on again: {uvm_is_on(setting, daemon)}"


def uvm_is_gone(setting):
    now = registered(setting)
    if None in now.values():
        raise NotPossible("the driver's list of registered GPUs is not visible here")
    before = {address: setting.uvm_before[address] for address in now}
    expect(now == before, f"registered before {before}, now {now}")
    return f"as before: {now}"


# ---- the stock tools, at the real paths


def smi_asks_us(setting, daemon):
    before = daemon.calls()
    told = setting.smi.persistence()
    asked = daemon.calls() - before - 1
    wrong = {gpu.address: told.get(gpu.address) for gpu in setting.machine.usable
             if told.get(gpu.address) != "Enabled"}
    expect(not wrong and asked > 0, f"nvidia-smi says {told}, and asked the daemon {asked} times")
    return f"nvidia-smi says {told}, and asked the daemon {asked} times"


def smi_sees_a_set(setting, daemon):
    setting.require_safe_release()
    gpu = setting.machine.usable[0]
    expected = "Enabled" if setting.legacy.get(gpu.address) else "Disabled"  # nvidia-smi also counts the kernel's flag
    try:
        set_mode(daemon, gpu.address, rpc.DISABLED)
        off = setting.smi.persistence()[gpu.address]
    finally:
        set_mode(daemon, gpu.address, rpc.ENABLED)
    on = setting.smi.persistence()[gpu.address]
    expect((off, on) == (expected, "Enabled"), f"off: {off} (expected {expected}), on again: {on}")
    return f"off: {off}, on again: {on}; the kernel's flag is {'on' if setting.legacy.get(gpu.address) else 'off'}"


def nvml_asks_us(setting, daemon):
    addresses = [gpu.address for gpu in setting.machine.usable]
    before = daemon.calls()
    done = subprocess.run([sys.executable, nvml.__file__, setting.nvml, str(setting.calls), *addresses],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    if "OSError" in done.stderr:
        raise NotPossible(done.stderr.strip().splitlines()[-1])
    expect(done.returncode == 0, done.stderr.strip())
    answer = json.loads(done.stdout)
    asked = daemon.calls() - before - 1
    figures = latency.summarise(answer["nsec"])
    setting.record.figures["nvmlDeviceGetPersistenceMode, by ctypes"] = figures
    expect(set(answer["modes"].values()) == {1} and asked >= setting.calls,
           f"NVML says {answer['modes']}, and asked the daemon {asked} times in {setting.calls} calls")
    return f"NVML says {answer['modes']}; {asked} calls reached the daemon; median {figures['median_usec']} us, " \
           f"p99 {figures['p99_usec']} us"


# ---- the end


def stops_in_time(_setting, daemon):
    status, seconds = daemon.stop()
    expect(status == 0, f"exit status {status}; its log: {daemon.log.text()[-500:]}")
    left = [path.name for path in (daemon.socket, daemon.runtime_directory / "nvidia-persistenced.pid")
            if path.exists()]
    expect(not left, f"left behind: {left}")
    daemon.log.wait_end(5)
    slow = daemon.log.has("a call of the driver has not returned")
    expect(seconds <= CONTRACT_STOP_SEC or slow, f"it took {seconds:.3f} s and gave no reason")
    return f"exit status 0 after {seconds:.3f} s{', as the driver was slow' if slow else ''}; socket and pid file are gone"


def settings_are_as_before(setting):
    if not setting.settings:
        raise NotPossible("the settings could not be read before")
    found = settings.changes(setting.settings, setting.smi.settings())
    expect(not found, "; ".join(found))
    n = sum(map(len, setting.settings.values()))
    return f"{n} settings of {len(setting.settings)} GPUs, read by nvidia-smi before and after"


def flags_are_as_before(setting):
    now = {gpu.address: setting.probe("legacy", gpu.address)[1] == "open: on" for gpu in setting.machine.usable}
    expect(now == setting.legacy, f"before {setting.legacy}, now {now}")
    return f"on: {now}"


def nodes_and_modules_are_as_before(setting):
    before = setting.record.facts["nodes"], setting.record.facts["modules"]
    now = setting.machine.nodes(), setting.machine.modules()
    expect(now == before, f"before {before}, now {now}")
    return f"{len(now[0])} nodes, {len(now[1])} modules"


def nobody_is_left(_setting):
    left = []
    for pid in process.children():
        if process.wait_gone(pid, 5):  # a keeper ends after its daemon
            os.waitpid(pid, 0)
        else:
            left.append(pid)
    expect(not left, f"processes {left} are left")
    return "every process that was started has ended"
