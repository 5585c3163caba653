# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""In which order what is checked: the tables, and the one loop that walks them."""

from . import attacks, checks

BEFORE, AFTERWARDS = "Before any daemon of ours", "Afterwards"

ALONE = (
    ("opening and closing each GPU is timed", checks.opens_are_timed),
    ("bind notices can be subscribed to, and let go", checks.notices_can_be_subscribed),
    ("the same as nobody", lambda setting: checks.notices_can_be_subscribed(setting, setting.as_nobody)),
    ("the driver tells the legacy flag to who has the GPU open, and to nobody else", checks.legacy_flag_is_answered),
    ("nvidia-smi says of the flag what we read", checks.legacy_flag_agrees_with_smi),
)

HOLDS = (
    ("it holds every GPU", checks.holds_every_gpu),
    ("it has each GPU's node open once, and no other", checks.has_the_right_nodes),
    ("it has subscribed to bind notices", checks.hears_of_unbinds),
    ("it keeps no privilege that it does not need", checks.has_no_privilege),
    ("these are the driver's devices, by number", checks.numbers_are_the_drivers),
    ("the driver says that each GPU is initialised", checks.is_initialised),
)

COMMANDS = (
    ("holdfast status tells the holds", checks.status_tells_the_holds),
    ("holdfast check", checks.check_is_content),
    ("holdfast clients has the daemon", checks.clients_has_the_daemon),
    ("holdfast doctor", checks.doctor_finds_its_way),
    ("holdfast metrics", checks.metrics_count_the_holds),
    ("holdfast settings reads what nvidia-smi reads, and changes nothing", checks.settings_are_what_smi_tells),
)

RIGHTS = (
    ("anybody may ask", checks.anybody_may_ask),
    ("nobody may not set", checks.nobody_may_not_set),
    ("a Set lets go of a GPU, and takes hold again", checks.set_lets_go_and_holds_again),
)

ATTACKS = tuple((f"attack by nobody: {name}", lambda setting, daemon, attack=attack: checks.survives(setting, daemon, attack))
                for name, attack in attacks.ATTACKS.items())

LATENCY = (
    ("Get against an echo server", checks.answers_quickly),
    ("Get against NVIDIA's daemon", checks.compared_with_nvidias),
)

STOP = (("it stops in time", checks.stops_in_time),)

UVM = (
    ("UVM persistence comes on", checks.uvm_is_on),
    ("its nodes: one of UVM for each GPU", checks.has_the_right_nodes),
    ("it goes with a Set off, and comes back with a Set on", checks.uvm_goes_with_a_set),
)

REAL = (
    ("the stock nvidia-smi asks us, and says Enabled", checks.smi_asks_us),
    ("NVML asks us, and says enabled", checks.nvml_asks_us),
    ("nvidia-smi sees a Set", checks.smi_sees_a_set),
)

AFTER = (
    ("UVM has the GPUs registered that it had", checks.uvm_is_gone),
    ("the kernel's persistence flags are as before", checks.flags_are_as_before),
    ("every setting that nvidia-smi tells is as before", checks.settings_are_as_before),
    ("device nodes and modules are as before", checks.nodes_and_modules_are_as_before),
    ("no process is left", checks.nobody_is_left),
)

# Title, how its daemon is started (a method of Setting), the checks.
WITH_A_DAEMON = (
    ("Our daemon, where nobody meets it by chance", "start_private", HOLDS + COMMANDS + RIGHTS + ATTACKS + LATENCY + STOP),
    ("With UVM persistence", "start_uvm", UVM + STOP),
    ("Our daemon at the real paths", "start_real", HOLDS + REAL + COMMANDS + STOP),
)


def walk(setting):
    record = setting.record
    for title, check in ALONE:
        record.check(BEFORE, title, check, setting)
    for phase, start, table in WITH_A_DAEMON:
        walk_with_daemon(setting, phase, getattr(setting, start), table)
    for title, check in AFTER:
        record.check(AFTERWARDS, title, check, setting)


def walk_with_daemon(setting, phase, start, table):
    record = setting.record
    was_there = setting.machine.runtime_directory.exists()
    started = []
    if not record.check(phase, "our daemon starts", lambda: started.append(start()) or f"process {started[0].pid}"):
        return
    daemon = started[0]
    try:
        for title, check in table:
            record.check(phase, title, check, setting, daemon)
    finally:
        record.check(phase, "it is gone", daemon.end)
        record.outputs[f"our daemon's log: {phase}"] = daemon.log.text()
        setting.clear_real_paths(was_there)
