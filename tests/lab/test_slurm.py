# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""fleet/slurm and fleet/nhc under Debian's slurmctld and slurmd, on nodes of the lab."""

import json
import re
import subprocess

import pytest

from harness.events import wait_until
from harness.simulator import scenario
from lab import base
from lab.clock import timed
from lab.lab import TOP

SERVICE = "nvidia-persistenced.service"
FOLDER = TOP / "fleet/slurm"
PROLOG = "/etc/slurm/prolog.d/20-holdfast"
HEALTH_CHECK = "/etc/slurm/holdfast-healthcheck"
INTERVAL = 5  # seconds between the health checks of slurmd
NEVER = 3600  # for tests that run the health check themselves

# Slurm numbers GPUs by minor, holdfast by PCI address. Here the two orders differ.
GPUS = scenario(gpu0="address = 0000:9a:00.0", gpu1="address = 0000:17:00.0")

# Simpler than on a machine: a node is a container without its own control groups.
CLUSTER = """
ClusterName=lab
SlurmctldHost={controller.name}({controller.address})
AuthType=auth/munge
SlurmUser=slurm
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ReturnToService=2
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
{ours}
{nodes}
PartitionName=gpu Nodes=ALL Default=YES MaxTime=10 State=UP
"""
NODE = ("NodeName={node.name} NodeAddr={node.address} CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 "
        "ThreadsPerCore=1 RealMemory=500 {gres} State=UNKNOWN")


class Slurm:
    """A cluster: the first node is the controller, and all nodes run jobs."""

    def __init__(self, nodes, interval, gres):
        self.nodes = nodes
        self.controller = nodes[0]
        with timed("Slurm's start"):
            for node in nodes:
                self._configure(node, interval, gres)
            self.controller.exec("systemctl", "start", "munge", "slurmctld")
            for node in nodes:
                node.exec("systemctl", "start", "munge", "slurmd")
                self.wait_idle(node)

    def _configure(self, node, interval, gres):
        ours = re.sub(r"(?<=\nHealthCheckInterval=)\d+", str(interval), (FOLDER / "slurm.conf").read_text())
        nodes = "\n".join(NODE.format(node=each, gres=gres) for each in self.nodes)
        node.write("/etc/slurm/slurm.conf", CLUSTER.format(controller=self.controller, ours=ours, nodes=nodes))
        # Slurm allocates character devices, and simulated GPUs are files. Slurm takes the numbers from the names.
        node.write("/etc/tmpfiles.d/slurm-gpus.conf", "".join(f"c+ /dev/slurm-gpu{n} - - - - 1:3\n" for n in range(2)))
        node.exec("systemd-tmpfiles", "--create", "slurm-gpus.conf")
        node.write("/etc/slurm/gres.conf", "Name=gpu File=/dev/slurm-gpu[0-1]\n" if gres else "")
        # Slurm would detect the control groups of the machine, not of the node.
        node.write("/etc/slurm/cgroup.conf", "CgroupPlugin=cgroup/v1\n")
        node.put(FOLDER / "prolog", PROLOG)
        node.put(FOLDER / "healthcheck", HEALTH_CHECK)
        node.put(FOLDER / "20-holdfast.conf", "/etc/systemd/system/slurmd.service.d/20-holdfast.conf")
        node.exec("systemctl", "daemon-reload")
        node.exec("install", "-d", "-o", "slurm", "/var/lib/slurm/slurmctld", "/var/lib/slurm/slurmd")

    # ---- queries

    def _field(self, node, pattern):
        found = re.search(pattern, self.controller.exec("scontrol", "-o", "show", "node", node.name))
        return found and found[1]

    def state(self, node):
        return self._field(node, r" State=(\S+)")

    def reason(self, node):
        """Returns the reason of the state, without its author and time."""
        return self._field(node, r" Reason=(.*?) \[")

    def wait_idle(self, node, timeout=30):
        wait_until(lambda: self.state(node) == "IDLE" and not self.reason(node), f"{node.name} idle", timeout)

    def wait_drained(self, node, timeout=30):
        """Returns the reason."""
        wait_until(lambda: self.state(node) == "IDLE+DRAIN", f"{node.name} drained", timeout)
        return self.reason(node)

    # ---- commands

    def run(self, line, gpus=1, node=None):
        """Runs a shell line as a job; returns its output."""
        where = [f"--nodelist={node.name}"] if node else []
        return self.controller.exec("srun", f"--gres=gpu:{gpus}", *where, "sh", "-c", line)

    def check_health(self, node):
        """Runs the health check as slurmd does each HealthCheckInterval. It must end before slurmd would kill it."""
        node.exec(HEALTH_CHECK, environment={"SLURMD_NODENAME": node.name}, timeout=50)


@pytest.fixture
def cluster(lab):
    """cluster(2, interval=INTERVAL): a Slurm cluster of two nodes that each hold two GPUs."""
    nodes = []

    def start(count=1, interval=NEVER, gres="Gres=gpu:2", gpus=GPUS):
        nodes.extend(lab.boot(count, packages=base.FLEET))
        for node in nodes:
            node.simulate(gpus).install()
            node.exec("systemctl", "enable", "--now", SERVICE)
        return Slurm(nodes, interval, gres)

    yield start
    for node in nodes:
        node.remove()


def held(status):
    """Returns the minors of held GPUs in a document of `holdfast status --json`."""
    return {gpu["minor"] for gpu in status["gpus"] if gpu["held"]}


def held_on(node):
    return held(json.loads(node.exec("holdfast", "status", "--json")))


# ---- jobs


def test_a_jobs_gpu_was_already_held_before_the_job(cluster):
    slurm = cluster(2)
    for node in slurm.nodes:
        number, status = slurm.run('echo "$SLURM_STEP_GPUS" && holdfast status --json', node=node).split("\n", 1)
        assert int(number) in held(json.loads(status))
        assert [gpu["initialisations"] for gpu in node.gpus.status()["gpus"]] == [1, 1], "the Prolog had nothing to do"
        assert not node.journal("--identifier=holdfast-prolog")


def test_the_prolog_switches_on_only_the_jobs_own_gpus(cluster):
    slurm = cluster()
    node = slurm.controller
    node.exec("holdfast", "set", "off")
    assert held_on(node) == set()
    number, status = slurm.run('echo "$SLURM_STEP_GPUS" && holdfast status --json').split("\n", 1)
    assert held(json.loads(status)) == {int(number)}
    assert "the GPUs are held now; before: GPU 1 (0000:9a:00.0) persistence mode is off" in node.journal("--identifier=holdfast-prolog")
    slurm.wait_idle(node)  # after srun's end Slurm completes the job


def test_the_prolog_leaves_a_gpu_off_that_the_configuration_leaves_off(cluster):
    """Even if it must switch on another GPU of the job."""
    node = cluster().controller
    other = leave_off(node)
    node.exec("holdfast", "set", "off", "--gpu=0000:9a:00.0")
    assert held_on(node) == set()
    assert prolog(node, "0,1").status == 0
    assert held_on(node) == other


def leave_off(node):
    """Leaves GPU 17 off by configuration. Returns the number of the other GPU, in a set."""
    node.write("/etc/holdfast/holdfast.conf", "[gpu 0000:17:00.0]\npersistence = off\n")
    node.exec("systemctl", "reload", SERVICE)
    wait_until(lambda: len(held_on(node)) == 1, "the new configuration is in force", timeout=20)
    return held_on(node)


def prolog(node, gpus):
    return node.try_exec(PROLOG, environment={"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": gpus}, timeout=80)


def test_the_prolog_does_nothing_for_a_setting_that_differs(cluster):
    """holdfast-settings.service reports it, and check warns of it. The job's GPUs are held all the same."""
    node = cluster().controller
    other = leave_off(node)
    node.write("/run/holdfast-settings/state.json", json.dumps({"pid": 1, "gpus": [
        {"address": "0000:9a:00.0", "hooks": [], "settings": [{"name": "power-limit", "differs": True}]}]}))
    assert "not as wanted" in node.try_exec("holdfast", "check").out
    assert prolog(node, "0,1").status == 0
    assert held_on(node) == other
    assert node.journal("--identifier=holdfast-prolog") == ""


def test_after_waiting_for_the_daemon_the_prolog_leaves_a_gpu_off_that_is_configured_off(cluster):
    node = cluster().controller
    other = leave_off(node)
    node.exec("systemctl", "stop", SERVICE)
    with subprocess.Popen(node.command(PROLOG, environment={"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0,1"})) as prolog:
        wait_until(lambda: node.try_exec("pgrep", "--full", "expect daemon").status == 0, "the prolog waits", timeout=20)
        node.exec("systemctl", "start", SERVICE)
        assert prolog.wait(timeout=60) == 0
    assert held_on(node) == other


def test_the_prolog_finds_holdfast_in_usr_local_and_lets_jobs_start_without_it(cluster):
    node = cluster().controller
    node.exec("mv", "/usr/bin/holdfast", "/usr/local/bin/holdfast")
    node.exec("holdfast", "set", "off")
    assert prolog(node, "0").status == 0
    assert held_on(node) == {0}
    node.exec("mv", "/usr/local/bin/holdfast", "/root/holdfast")
    assert prolog(node, "1").status == 0
    assert "the job's GPUs are not checked" in node.journal("--identifier=holdfast-prolog")


def test_a_gpu_that_cannot_be_held_drains_the_node_and_requeues_only_its_own_job(cluster):
    slurm = cluster()
    node = slurm.controller
    node.exec("holdfast", "set", "off")
    node.gpus.ctl("fail", gpu=1, count="all")
    assert held(json.loads(slurm.run("holdfast status --json"))) == {0}, "the failing GPU affects a job that does not use it"
    job = node.exec("sbatch", "--parsable", "--gres=gpu:2", "--output=/dev/null", "--wrap=true").strip()
    assert slurm.wait_drained(node) == "Prolog error"
    shown = node.exec("scontrol", "-o", "show", "job", job)
    assert " JobState=PENDING " in shown and " Restarts=1 " in shown
    said = node.journal("--identifier=holdfast-prolog")
    assert f"job {job}: failed; Slurm will requeue the job and drain the node: GPU 0 (0000:17:00.0)" in said


def test_the_prolog_waits_for_a_daemon_that_is_being_started(cluster):
    node = cluster().controller
    node.exec("systemctl", "stop", SERVICE)
    with subprocess.Popen(node.command(PROLOG, environment={"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0,1"})) as prolog:
        wait_until(lambda: node.try_exec("pgrep", "--full", "expect daemon").status == 0, "the prolog waits", timeout=20)
        node.exec("systemctl", "start", SERVICE)
        assert prolog.wait(timeout=60) == 0
    assert held_on(node) == {0, 1}


def test_without_a_daemon_the_prolog_refuses_in_time_and_does_not_set_the_kernels_flag(cluster):
    node = cluster().controller
    node.exec("systemctl", "stop", SERVICE)
    assert prolog(node, "0").status == 1
    said = node.journal("--identifier=holdfast-prolog")
    assert "job 7: failed; Slurm will requeue" in said and "no persistence daemon is running" in said
    assert not any(gpu["legacy"] for gpu in node.gpus.status()["gpus"])


def test_an_unknown_gpu_number_means_all_gpus_and_a_missing_number_means_none(cluster):
    """Slurm gives such numbers to jobs with MIG slices."""
    node = cluster().controller
    node.exec("holdfast", "set", "off")
    node.exec(PROLOG, environment={"SLURM_JOB_ID": "7"})
    assert held_on(node) == set()
    node.exec(PROLOG, environment={"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "12"})
    assert held_on(node) == {0, 1}


# ---- nodes


def test_a_node_whose_daemon_stopped_is_drained_at_the_next_check_and_comes_back_when_it_runs(cluster):
    slurm = cluster(2, interval=INTERVAL)
    well, ill = slurm.nodes
    ill.exec("systemctl", "stop", SERVICE)
    with timed("from a daemon's stop to the drain, checks each 5 s"):
        # A check waits 5 s, because the daemon may be restarting.
        assert re.match("holdfast: .*(no daemon|nvidia-persistenced)", slurm.wait_drained(ill, timeout=60))
    assert slurm.state(well) == "IDLE"
    ill.exec("systemctl", "start", SERVICE)
    with timed("from its start to the resume"):
        slurm.wait_idle(ill, timeout=60)


def test_a_node_that_boots_is_offered_when_its_gpus_are_held(cluster):
    """The GPUs take longer to open than the health check waits."""
    slurm = cluster(2, gpus=scenario(defaults="init = 8s\n"))
    node = slurm.nodes[1]
    node.reboot()
    asked = ("systemctl", "show", "--value", "--property=ActiveEnterTimestampMonotonic")
    held_at, offered_at = (int(node.exec(*asked, unit)) for unit in (SERVICE, "slurmd"))
    assert held_on(node) == {0, 1} and held_at < offered_at
    slurm.wait_idle(node)
    slurm.run("true", node=node)
    assert not node.journal("--boot", "--identifier=holdfast-healthcheck", "--identifier=holdfast-prolog")


def test_a_node_that_somebody_else_drained_stays_drained(cluster):
    slurm = cluster()
    node = slurm.controller
    for reason, verb in (("rack 4 is moved", "stop"), ("holdfast is being upgraded", "start")):
        node.exec("scontrol", "update", f"NodeName={node.name}", "State=DRAIN", f"Reason={reason}")
        node.exec("systemctl", verb, SERVICE)
        slurm.check_health(node)
        assert slurm.wait_drained(node) == reason


def test_a_node_that_somebody_else_drained_again_is_not_resumed(cluster):
    slurm = cluster()
    node = slurm.controller
    node.exec("systemctl", "stop", SERVICE)
    slurm.check_health(node)
    assert slurm.wait_drained(node).startswith("holdfast: ")
    node.exec("scontrol", "update", f"NodeName={node.name}", "State=DRAIN", "Reason=looked at")
    node.exec("systemctl", "start", SERVICE)
    slurm.check_health(node)
    assert slurm.wait_drained(node) == "looked at"


def test_a_failed_gpu_drains_the_node_until_it_is_held_not_only_retried(cluster):
    slurm = cluster()
    node = slurm.controller
    node.gpus.ctl("fail", gpu=1, count="all")
    node.exec("holdfast", "set", "off")
    assert node.try_exec("holdfast", "set", "on").status == 1
    slurm.check_health(node)
    assert slurm.wait_drained(node).startswith("holdfast: GPU 0 (0000:17:00.0) failed: ")

    node.gpus.ctl("hang", gpu=1)
    node.gpus.ctl("fail", gpu=1, count=0)
    assert node.try_exec("holdfast", "set", "on", "--gpu", "0", "--timeout", "1").status == 6, "the GPU is not being opened"
    slurm.check_health(node)
    assert slurm.state(node) == "IDLE+DRAIN"

    node.gpus.ctl("hang", gpu=1, on=False)
    node.exec("holdfast", "wait")
    slurm.check_health(node)
    slurm.wait_idle(node)


def test_a_gpu_that_is_switched_off_drains_no_node(cluster):
    slurm = cluster()
    slurm.controller.exec("holdfast", "set", "off")
    slurm.check_health(slurm.controller)
    assert slurm.state(slurm.controller) == "IDLE"


def test_a_node_without_gpus_in_slurm_is_not_checked(cluster):
    slurm = cluster(gres="")
    slurm.controller.exec("systemctl", "stop", SERVICE)
    slurm.check_health(slurm.controller)
    assert slurm.state(slurm.controller) == "IDLE"


def test_without_slurmctld_the_health_check_ends_in_time_and_drains_when_it_is_back(cluster):
    slurm = cluster(2)
    controller, node = slurm.nodes
    controller.exec("systemctl", "stop", "slurmctld")
    node.exec("systemctl", "stop", SERVICE)
    with timed("a health check without slurmctld"):
        slurm.check_health(node)
    assert "scontrol has no answer" in node.journal("--identifier=holdfast-healthcheck")
    controller.exec("systemctl", "start", "slurmctld")
    wait_until(lambda: "UP" in controller.try_exec("scontrol", "ping").out, "slurmctld", timeout=60)
    slurm.check_health(node)
    assert slurm.wait_drained(node).startswith("holdfast: ")


# ---- LBNL Node Health Check

# What NHC provides to a check: a shell that has sourced the check's file, and die(), which takes a status and a message and
# uses the message in a command line.
NHC = """die() { eval echo "'$1'" "'$2'"; }; . /etc/nhc/scripts/holdfast.nhc; """


def test_nhcs_check_passes_or_reports_what_is_wrong(node):
    def nhc(line):
        result = node.try_exec("bash", "-uc", NHC + line)
        assert result.err == ""
        return result.status, result.out.split(";")[0].strip()

    node.put(TOP / "fleet/nhc/holdfast.nhc", "/etc/nhc/scripts/holdfast.nhc")
    node.exec("systemctl", "enable", "--now", SERVICE)
    assert nhc("check_holdfast") == (0, "")
    assert nhc("check_holdfast --min-gpus 8") == (1, "2 check_holdfast:  2 GPUs, fewer than 8")
    node.exec("holdfast", "set", "off")
    assert nhc("check_holdfast --expect any") == (0, "")
    wrong = nhc("""check_holdfast --gpu "no'GPU" """)
    assert wrong[0] == 1 and wrong[1].startswith("3 check_holdfast:  ") and "noGPU is not a GPU" in wrong[1]
