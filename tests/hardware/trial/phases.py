# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Tables of all checks in their order, and the loop that runs them."""

from . import attacks, checks

BEFORE, AFTERWARDS = "Before any daemon of ours", "Afterwards"

ALONE = (
    ("opening and closing each GPU is timed", checks.opens_are_timed),
    ("a subscription to bind notices begins and ends", checks.notices_can_be_subscribed),
    ("the same as the user nobody", lambda setting: checks.notices_can_be_subscribed(setting, setting.as_nobody)),
    ("the driver reports the legacy flag only to a process that has the GPU open", checks.legacy_flag_is_answered),
    ("nvidia-smi reports the same flag", checks.legacy_flag_agrees_with_smi),
)

HOLDS = (
    ("the daemon holds every GPU", checks.holds_every_gpu),
    ("the daemon has each GPU's node open once, and no other node", checks.has_the_right_nodes),
    ("the daemon has subscribed to bind notices", checks.hears_of_unbinds),
    ("the daemon keeps no privilege that it does not need", checks.has_no_privilege),
    ("the open nodes have the driver's device numbers", checks.numbers_are_the_drivers),
    ("the driver reports each GPU as initialised", checks.is_initialised),
)

COMMANDS = (
    ("holdfast status shows every GPU as held", checks.status_tells_the_holds),
    ("holdfast check", checks.check_has_the_right_status),
    ("holdfast clients lists the daemon", checks.clients_has_the_daemon),
    ("holdfast doctor", checks.doctor_exits_with_the_number_of_problems),
    ("holdfast metrics", checks.metrics_count_the_holds),
    ("holdfast settings reads the same values as nvidia-smi", checks.settings_are_what_smi_tells),
)

RIGHTS = (
    ("the user nobody may Get", checks.anybody_may_ask),
    ("the user nobody may not Set", checks.the_user_nobody_may_not_set),
    ("a Set releases a GPU, and another Set holds it again", checks.set_lets_go_and_holds_again),
)

ATTACKS = tuple((f"attack by nobody: {name}", lambda setting, daemon, attack=attack: checks.survives(setting, daemon, attack))
                for name, attack in attacks.ATTACKS.items())

LATENCY = (
    ("Get against an echo server", checks.answers_quickly),
    ("Get against NVIDIA's daemon", checks.compared_with_nvidias),
)

STOP = (("the daemon stops in time", checks.stops_in_time),)

UVM = (
    ("every GPU is registered with UVM", checks.uvm_is_on),
    ("the daemon has one UVM node open for each GPU", checks.has_the_right_nodes),
    ("a Set off ends the UVM registration, and a Set on restores it", checks.uvm_goes_with_a_set),
)

REAL = (
    ("the stock nvidia-smi asks our daemon, and reports Enabled", checks.smi_asks_us),
    ("NVML asks our daemon, and reports enabled", checks.nvml_asks_us),
    ("nvidia-smi reports the mode after a Set", checks.smi_sees_a_set),
)

AFTER = (
    ("the same GPUs are registered with UVM as before", checks.uvm_is_gone),
    ("the kernel's persistence flags are as before", checks.flags_are_as_before),
    ("every setting that nvidia-smi reports is as before", checks.settings_are_as_before),
    ("device nodes and modules are as before", checks.nodes_and_modules_are_as_before),
    ("no process is left", checks.nobody_is_left),
)

# Title, the method of Setting that starts the daemon, the checks.
WITH_A_DAEMON = (
    ("Our daemon at a private path", "start_private", HOLDS + COMMANDS + RIGHTS + ATTACKS + LATENCY + STOP),
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
        record.check(phase, "the daemon has ended", daemon.end)
        record.outputs[f"our daemon's log: {phase}"] = daemon.log.text()
        setting.clear_real_paths(was_there)
