# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The collection holdfast.gpu on several nodes: installation, checks that find faults, upgrade, rollback, and the takeover
from other daemons and back."""

import ast
import csv
import shutil
import subprocess
from pathlib import Path

import pytest

from controller import COLLECTION, Controller
from lab import base, rpms as lab_rpms
from lab.lab import BUILD, TOP
from lab.packages import install

UNIT = "nvidia-persistenced.service"
THEIRS = "/usr/bin/nvidia-persistenced"
OURS = "/usr/libexec/holdfast/nvidia-persistenced"
NAMES = ("holdfast", "holdfast-nvidia-persistenced")
NODE = {"packages": base.FLEET}
METRICS = "/var/lib/prometheus/node-exporter/holdfast.prom"
NVML = BUILD / "tests/nvml/libnvidia-ml.so.1"  # the stand-in, which uses the simulated driver
GPUS = 2

pytestmark = pytest.mark.xdist_group("ansible")  # the tests share three nodes


@pytest.fixture(scope="module")
def controller(lab):
    if not shutil.which("ansible-playbook"):
        pytest.skip("ansible-playbook is missing (scripts/setup lab-fleet installs it)")
    return Controller(lab)


def files(*paths):
    return {"persistence_install_from": "files", "persistence_package_files": paths}


@pytest.fixture(scope="module")
def current(packages):
    return files(*map(packages.file, NAMES))


@pytest.fixture(scope="module")
def newer(packages):
    return files(*map(packages.newer, NAMES))


class Fleet:
    """Three new nodes on which the role was run twice: first in check mode, then to enable Holdfast."""

    def __init__(self, controller, nodes, variables):
        self.controller = controller
        self.nodes = nodes
        self.predicted = controller.apply("enable", nodes, "--check", "--diff", **variables)
        assert [node.gpus.users() for node in nodes] == [[0] * GPUS] * len(nodes), "a run in check mode changed something"
        self.enabled = controller.apply("enable", nodes, **variables)

    def check(self):
        """Returns the final message of the check, and what is wrong on each node."""
        ended = self.controller.play("check", self.nodes)
        verdict = ended.message("Fail if a node has a problem")
        assert (ended.status == 0) == verdict.endswith("hold all their GPUs"), ended.text
        return verdict, ended.message("Show all nodes")


@pytest.fixture(scope="module")
def fleet(lab, controller, current):
    nodes = [node.simulate(gpus=GPUS) for node in lab.boot(3, **NODE)]
    yield Fleet(controller, nodes, current)
    for node in nodes:
        node.remove()


@pytest.fixture
def healthy(fleet):
    """The healthy fleet. The test must leave it healthy."""
    yield fleet
    assert [node.gpus.users() for node in fleet.nodes] == [[1] * GPUS] * 3, "a test left a node with a fault"


@pytest.fixture
def fresh(lab):
    """A node with simulated GPUs and without Holdfast."""
    node = lab.node(**NODE).boot().simulate(gpus=GPUS)
    yield node
    node.remove()


def teardowns(node):
    return sum(gpu["teardowns"] for gpu in node.gpus.status()["gpus"])


def assert_warm(node):
    assert (node.gpus.users(), teardowns(node)) == ([1] * GPUS, 0)


def program(node):
    pid = node.exec("systemctl", "show", "--property=MainPID", "--value", UNIT).strip()
    return node.exec("readlink", f"/proc/{pid}/exe").strip()


# ---- the collection itself -----------------------------------------------------


@pytest.mark.parametrize(("folder", "tool", "options"), [
    (COLLECTION, "ansible-lint", ("--profile=production", "--offline")),
    (TOP / "fleet/ansible", "yamllint", ("--strict", ".")),
], ids=["ansible-lint", "yamllint"])
def test_the_collection_passes_its_linters(folder, tool, options, controller):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is missing (scripts/setup lab-fleet installs it)")
    done = subprocess.run([tool, *options], cwd=folder, env=controller.environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_modules_are_written_in_python_3_6():
    for module in (COLLECTION / "plugins").glob("module*/*.py"):
        ast.parse(module.read_text(), feature_version=(3, 6))


def test_wrong_variables_are_refused_before_anything_is_done(controller, fresh):
    ended = controller.play("enable", [fresh], persistence_install_from="floppy")
    assert ended.status != 0 and "value of persistence_install_from must be one of" in ended.text
    assert ended.changed(fresh) == []


# ---- enabling ------------------------------------------------------------------


def test_a_run_over_three_new_nodes_leaves_every_gpu_held_at_every_boot(healthy):
    for node in healthy.nodes:
        assert program(node) == OURS
        assert_warm(node)
        assert node.exec("systemctl", "is-enabled", UNIT) == "enabled\n"
    healthy.nodes[0].reboot()
    assert_warm(healthy.nodes[0])


def test_check_mode_on_new_nodes_predicted_what_the_run_then_changed(fleet):
    for node in fleet.nodes:
        assert fleet.enabled.changed(node), fleet.enabled.text
        assert fleet.predicted.changed(node) == fleet.enabled.changed(node)


def test_one_node_is_first_and_the_others_follow(fleet):
    first, *others = fleet.enabled.order("Examine the service")
    assert first == "node1" and sorted(others) == ["node2", "node3"]


def test_a_second_run_changes_nothing(healthy, current):
    again = healthy.controller.apply("enable", healthy.nodes, holdfast_serial=3, **current)
    assert [again.changed(node) for node in healthy.nodes] == [[], [], []], again.text


def test_when_the_first_node_fails_no_other_is_touched(healthy, newer):
    node = healthy.nodes[0]
    node.gpus.ctl("lose", gpu=0)
    node.exec("holdfast", "set", "off", "--gpu", "0")
    try:
        ended = healthy.controller.play("enable", healthy.nodes, persistence_install_from="nothing",
                                      persistence_wait_sec=1)
        assert ended.status != 0
        assert "GPU 0" in ended.message("Check that every GPU is held, and that the service starts at boot")
        assert set(ended.order("Examine the service")) == {"node1"}
    finally:
        node.gpus.ctl("reset", gpu=0)
        node.exec("holdfast", "set", "on")


# ---- checking ------------------------------------------------------------------


def test_a_healthy_fleet_passes_the_check(healthy):
    verdict, table = healthy.check()
    assert verdict == "3 nodes hold all their GPUs"
    assert table.count("active, enabled") == 3 and table.count("2/2") == 3


def test_a_daemon_that_was_stopped_is_found(healthy):
    node = healthy.nodes[1]
    node.exec("systemctl", "stop", UNIT)
    verdict, table = healthy.check()
    node.exec("systemctl", "start", UNIT)
    assert verdict == "1 of 3 nodes: node2"
    assert f"{UNIT} is inactive" in table and "no persistence daemon is running" in table


def test_a_gpu_that_failed_is_found(healthy):
    node = healthy.nodes[2]
    node.exec("holdfast", "set", "off", "--gpu", "1")
    node.gpus.ctl("fail", gpu=1, count="all")
    assert node.try_exec("holdfast", "set", "on", "--gpu", "1").status == 1
    verdict, table = healthy.check()
    node.gpus.ctl("fail", gpu=1, count=0)
    node.exec("holdfast", "set", "on", "--gpu", "1")
    assert verdict == "1 of 3 nodes: node3"
    assert "GPU 1" in table and "1/2" in table


def test_gpus_kept_by_the_legacy_flag_alone_are_found(healthy):
    node = healthy.nodes[0]
    node.exec("systemctl", "disable", "--now", UNIT)
    node.gpus.ctl("legacy", gpu="all")
    assert [gpu["initialised"] for gpu in node.gpus.status()["gpus"]] == [True] * GPUS
    verdict, table = healthy.check()
    node.gpus.ctl("legacy", gpu="all", on=False)
    node.exec("systemctl", "enable", "--now", UNIT)
    assert verdict == "1 of 3 nodes: node1"
    assert "is disabled, so it would not start at boot" in table and "0/2" in table


def test_a_node_that_cannot_be_reached_is_named_and_the_others_are_checked(healthy):
    node = healthy.nodes[0]  # the tasks with run_once would run for this node
    node.poweroff()
    healthy.nodes[2].exec("systemctl", "stop", UNIT)
    verdict, table = healthy.check()
    healthy.nodes[2].exec("systemctl", "start", UNIT)
    node.boot()
    assert verdict.startswith("2 of 3 nodes: ") and "node1" in verdict and "node3" in verdict
    assert "UNREACHABLE" in table and "CRITICAL" in table and "OK" in table


def test_a_node_without_holdfast_is_named(controller, fresh):
    ended = controller.play("check", [fresh])
    assert ended.status != 0
    assert "Holdfast is not installed" in ended.message("Show all nodes")


# ---- the report ----------------------------------------------------------------


def test_the_report_has_every_node_including_unreachable_ones(healthy, lab):
    gone = lab.node(**NODE).boot()
    gone.cut_power()
    # The installed collection does not contain holdfast-fleet-report; the playbook in the checkout finds it.
    healthy.controller.apply(COLLECTION / "playbooks/report.yml", [*healthy.nodes, gone],
                             holdfast_report_folder=lab.folder)
    with open(lab.folder / "fleet.csv", encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    nodes = {row["node"] for row in rows}
    assert nodes == {"node1", "node2", "node3", gone.name}
    assert len([row for row in rows if row["node"] == "node1"]) == GPUS
    assert "cannot be reached" in (lab.folder / "fleet.html").read_text()
    gone.remove()


# ---- changing ------------------------------------------------------------------


def test_another_configuration_is_applied_without_a_teardown_and_a_wrong_one_is_refused(healthy):
    node = healthy.nodes[0]
    before = teardowns(node)
    changed = {"persistence_install_from": "nothing", "persistence_config": {"daemon": {"stuck-timeout": 90}}}
    ended = healthy.controller.apply("enable", [node], **changed)
    assert [task.split(" : ")[-1] for task in ended.changed(node)] == ["Write the configuration", "Reload Holdfast"]
    assert "stuck-timeout = 90" in node.read("/etc/holdfast/holdfast.conf")
    assert healthy.controller.apply("enable", [node], **changed).changed(node) == []

    wrong = healthy.controller.play("enable", [node], **changed | {"persistence_config": {"daemon": {"x": 1}}})
    assert wrong.status != 0 and "unknown key" in wrong.text, wrong.text
    assert "stuck-timeout = 90" in node.read("/etc/holdfast/holdfast.conf")
    assert teardowns(node) == before


def test_an_upgrade_and_a_downgrade_tear_no_gpu_down(healthy, newer, current, packages):
    node = healthy.nodes[1]
    before = teardowns(node)
    for variables, version in ((newer, f"{packages.version('holdfast')}+1"), (current, packages.version("holdfast"))):
        predicted = healthy.controller.apply("enable", [node], "--check", **variables)
        ended = healthy.controller.apply("enable", [node], **variables)
        assert ended.changed(node) == predicted.changed(node) != []
        assert node.exec("dpkg-query", "--show", "--showformat=${Version}", "holdfast") == version
        assert program(node) == OURS
    assert (node.gpus.users(), teardowns(node)) == ([1] * GPUS, before)


# ---- other installations, and rollbacks ----------------------------------------


def offer(node, *packages):
    """Makes these packages the only ones in the node's repository."""
    node.exec("rm", "-rf", "/srv/repository")
    for file in packages:
        node.put(file, f"/srv/repository/{file.name}")
    node.exec("cd /srv/repository && apt-ftparchive packages . >Packages")
    node.write("/etc/apt/sources.list", "deb [trusted=yes] file:/srv/repository ./\n")


def test_packages_are_installed_by_name_and_a_rollback_leaves_nothing(controller, fresh, packages):
    offer(fresh, *map(packages.file, NAMES))
    fresh.exec("apt-get", "update")
    predicted = controller.apply("enable", [fresh], "--check")
    assert controller.apply("enable", [fresh]).changed(fresh) == predicted.changed(fresh) != []
    assert_warm(fresh)

    assert controller.apply("rollback", [fresh], "--check").changed(fresh) != []
    assert fresh.gpus.users() == [1] * GPUS
    controller.apply("rollback", [fresh])
    assert fresh.gpus.users() == [0] * GPUS
    assert fresh.try_exec("which", "holdfast").status == 1
    assert fresh.try_exec("test", "-e", "/etc/holdfast").status == 1
    assert controller.apply("rollback", [fresh]).changed(fresh) == []


def test_a_build_is_installed_from_an_archive_and_taken_away_again(controller, fresh, lab):
    archive = lab.folder / "holdfast.tar.gz"
    shutil.make_archive(str(archive).removesuffix(".tar.gz"), "gztar", lab.own.installation)
    how = {"persistence_install_from": "archive", "persistence_archive": archive,
           "persistence_installer": TOP / "packaging/install", "persistence_metrics_file": METRICS}
    fresh.exec("mkdir", "-p", Path(METRICS).parent)
    fresh.write("/usr/bin/nvidia-persistenced", "as of a .run file")
    run = controller.play("enable", [fresh], **how)
    assert run.status != 0 and "not replaced: /usr/bin/nvidia-persistenced" in run.text, run.text
    how["persistence_archive_force"] = True
    predicted = controller.apply("enable", [fresh], "--check", **how)
    assert controller.apply("enable", [fresh], **how).changed(fresh) == predicted.changed(fresh) != []
    assert_warm(fresh)
    fresh.exec("systemctl", "start", "holdfast-metrics.service")  # which the timer does each minute
    assert "holdfast_up 1" in fresh.read(METRICS)
    assert controller.apply("enable", [fresh], **how).changed(fresh) == []
    controller.apply("rollback", [fresh])
    assert fresh.gpus.users() == [0] * GPUS
    assert fresh.try_exec("which", "holdfast").status == 1


def test_a_rollback_removes_what_the_role_wrote_and_keeps_an_administrators_files(controller, fresh, current):
    how = current | {"persistence_config": {"gpu *": {"persistence": True}}, "persistence_metrics_file": METRICS}
    fresh.exec("mkdir", "-p", Path(METRICS).parent)
    controller.apply("enable", [fresh], **how)
    fresh.exec("systemctl", "start", "holdfast-metrics.service")  # which the timer does each minute
    fresh.write("/etc/holdfast/hooks.d/10-site", "#!/bin/sh\n")
    written = ("/etc/holdfast/holdfast.conf", "/etc/holdfast/metrics.env", METRICS)
    assert [fresh.try_exec("test", "-e", path).status for path in written] == [0, 0, 0]

    controller.apply("rollback", [fresh], **how)
    assert [fresh.try_exec("test", "-e", path).status for path in written] == [1, 1, 1]
    assert fresh.read("/etc/holdfast/hooks.d/10-site") == "#!/bin/sh\n"

    fresh.write("/etc/holdfast/holdfast.conf", "[daemon]\n")
    assert controller.apply("rollback", [fresh], **how).changed(fresh) == []
    assert fresh.read("/etc/holdfast/holdfast.conf") == "[daemon]\n"


def test_settings_are_applied_and_one_that_cannot_be_applied_is_a_failure(controller, fresh):
    fresh.install()
    fresh.put(NVML, "/usr/lib/libnvidia-ml.so.1")
    fresh.write("/etc/systemd/system/holdfast-settings.service.d/nvml.conf",
                "[Service]\nEnvironment=HOLDFAST_SIM_SOCKET=/run/holdfast-sim/socket\n")
    how = {"persistence_install_from": "nothing", "persistence_settings": True}
    controller.apply("enable", [fresh], **how, persistence_config={"gpu *": {"power-limit": 500}})
    assert [gpu["settings"]["power_limit_w"] for gpu in fresh.gpus.status()["gpus"]] == [500] * GPUS
    assert controller.apply("enable", [fresh], **how, persistence_config={"gpu *": {"power-limit": 500}}).changed(fresh) == []
    controller.apply("enable", [fresh], **how, persistence_config={"gpu *": {"power-limit": "50%"}})
    assert [gpu["settings"]["power_limit_w"] for gpu in fresh.gpus.status()["gpus"]] == [350] * GPUS
    wrong = controller.play("enable", [fresh], **how, persistence_config={"gpu *": {"power-limit": 900}})
    assert wrong.status != 0 and "2 settings or hooks not as wanted" in wrong.text, wrong.text
    assert_warm(fresh)


def test_a_holdfast_that_the_image_already_has_is_enabled_and_started(controller, fresh):
    fresh.install()
    how = {"persistence_install_from": "nothing"}
    predicted = controller.apply("enable", [fresh], "--check", **how)
    assert controller.apply("enable", [fresh], **how).changed(fresh) == predicted.changed(fresh) != []
    assert_warm(fresh)
    assert controller.apply("enable", [fresh], **how).changed(fresh) == []


def test_a_node_whose_unit_has_holdfasts_own_name_keeps_it(controller, fresh, packages, current):
    controller.apply("enable", [fresh], **files(packages.file("holdfast")))
    assert fresh.exec("systemctl", "is-active", "holdfast.service") == "active\n"
    assert_warm(fresh)
    assert controller.apply("enable", [fresh], **current).changed(fresh) == []
    assert_warm(fresh)


# ---- takeover from other daemons -----------------------------------------------


@pytest.mark.parametrize("name", ["nvidia-compute-utils-595", "nvidia-persistenced"])
def test_another_packages_unit_is_taken_over_and_given_back_with_the_gpus_as_they_are(name, controller, fresh, packages,
                                                                                      lab, current):
    theirs = packages.drivers(name)
    install(fresh, theirs)
    assert program(fresh) == THEIRS
    predicted = controller.apply("enable", [fresh], "--check", **current)
    assert controller.apply("enable", [fresh], **current).changed(fresh) == predicted.changed(fresh) != []
    assert program(fresh) == OURS
    assert_warm(fresh)
    assert controller.apply("enable", [fresh], **current).changed(fresh) == []

    controller.apply("rollback", [fresh])
    assert program(fresh) == THEIRS
    assert_warm(fresh)


def test_only_the_package_nvidia_persistenced_is_replaced(controller, fresh, packages, current):
    """The driver depends on Ubuntu's package, and apt would remove both."""
    fields = "Provides: nvidia-persistenced\nConflicts: nvidia-persistenced\n"
    install(fresh, packages.drivers("nvidia-compute-utils-595", fields=fields))
    refused = controller.play("enable", [fresh], persistence_replace_package=True, **current)
    assert refused.status != 0 and "nvidia-compute-utils-595: /" in refused.text, refused.text
    assert refused.changed(fresh) == [] and program(fresh) == THEIRS


def test_nvidias_package_is_replaced_on_request(controller, fresh, packages, lab, current):
    theirs = packages.drivers("nvidia-persistenced")
    install(fresh, theirs)
    controller.apply("enable", [fresh], persistence_replace_package=True, **current)
    assert program(fresh) == OURS and fresh.gpus.users() == [1] * GPUS
    status = fresh.exec("dpkg-query", "--show", "--showformat=${db:Status-Status}", "nvidia-persistenced")
    assert status == "config-files"


@pytest.fixture
def rpm_node(lab, rpms):
    """A node with dnf."""
    node = lab_rpms.node(lab)
    rpms.prepare(node)
    node.exec("rm", "/usr/bin/dpkg-query")  # no RPM distribution has it
    yield node
    node.remove()


def test_only_the_rpm_nvidia_persistenced_is_replaced(controller, rpm_node, rpms):
    node, other = rpm_node, rpms.with_nvidias_daemon("nvidia-compute-G06")
    node.put(other, f"/root/{other.name}")
    lab_rpms.dnf(node, f"install ./{other.name}")
    refused = controller.play("enable", [node], persistence_replace_package=True, **files(*(rpms.ours[name] for name in NAMES)))
    assert refused.status != 0 and "nvidia-compute-G06: /usr/lib/systemd" in refused.text, refused.text
    assert refused.changed(node) == [] and not lab_rpms.has(node, "holdfast")


def test_nvidias_rpm_is_replaced_and_restored_without_touching_the_driver_that_requires_it(controller, rpm_node, rpms):
    node = rpm_node
    how = files(*(rpms.ours[name] for name in NAMES)) | {"persistence_replace_package": True}
    lab_rpms.dnf(node, "install nvidia-driver-cuda")
    node.exec("systemctl", "enable", "--now", UNIT)
    assert program(node) == THEIRS
    controller.apply("enable", [node], **how)
    assert program(node) == OURS and not lab_rpms.has(node, "nvidia-persistenced")

    refused = controller.play("rollback", [node], **how)
    assert refused.status != 0 and "nvidia-persistenced = 3:595.45.04 is needed by" in refused.text, refused.text
    assert "persistence_restore_packages" in refused.text and program(node) == OURS

    rpms.publish(node, lab_rpms.NEW)
    how |= {"persistence_restore_packages": ["nvidia-persistenced"], "persistence_update_cache": True}
    for missing in "", f"nvidia-driver-cuda-{lab_rpms.NEW}* nvidia-persistenced-{lab_rpms.OLD}*":
        node.exec(f"cd {lab_rpms.REPOSITORY} && rm -f {missing} && createrepo_c --quiet .")
        refused = controller.play("rollback", [node], **how)
        assert "dnf would also upgrade or remove nvidia-driver-cuda, so nothing was changed" in refused.text, refused.text
        assert program(node) == OURS

    rpms.publish(node, lab_rpms.OLD)
    how["persistence_restore_packages"] = [f"nvidia-persistenced-{lab_rpms.OLD}"]
    controller.apply("rollback", [node], **how)
    assert program(node) == THEIRS and lab_rpms.has(node, "nvidia-driver-cuda") and not lab_rpms.has(node, "holdfast")
    assert lab_rpms.OLD in node.exec("rpm", "--query", "nvidia-driver-cuda")
    node.gpus.wait_users(*[1] * GPUS)
    assert controller.apply("rollback", [node], **how).changed(node) == []


WITH_DNF = """- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact: {pkg_mgr: dnf, cacheable: true}  # the node is Debian, and has apt, too
    - ansible.builtin.import_role: {name: holdfast.gpu.persistence}
"""


def test_nvidias_rpm_is_replaced_by_packages_of_a_repository(controller, rpm_node, rpms, tmp_path):
    node, playbook = rpm_node, tmp_path / "play.yml"
    lab_rpms.dnf(node, "install nvidia-driver-cuda")
    node.exec("systemctl", "enable", "--now", UNIT)
    for name in NAMES:
        node.put(rpms.ours[name], f"{lab_rpms.REPOSITORY}/{rpms.ours[name].name}")
    node.exec("createrepo_c", "--quiet", lab_rpms.REPOSITORY)
    playbook.write_text(WITH_DNF)
    controller.apply(playbook, [node], persistence_replace_package=True, persistence_update_cache=True)
    assert program(node) == OURS and lab_rpms.has(node, "nvidia-driver-cuda")


def test_nvidias_deb_is_restored_without_touching_the_driver_that_requires_it(controller, fresh, packages, current):
    """The library and the daemon require each other, as in Debian's and NVIDIA's packages."""
    node, old, new = fresh, "595.45.04", "595.71.05"
    theirs = {version: [packages.drivers("nvidia-persistenced", version=version, fields=f"Depends: libcfg (= {version})\n"),
                        packages.empty("libcfg", version=version, fields="Depends: nvidia-persistenced\n")]
              for version in (old, new)}
    how = current | {"persistence_replace_package": True}
    install(node, *theirs[old])
    controller.apply("enable", [node], **how)

    for options in ["--check"], []:
        refused = controller.play("rollback", [node], *options, **how)
        assert "libcfg depends on nvidia-persistenced" in refused.text, refused.text
        assert node.exec("dpkg", "--get-selections", *NAMES).split() == [NAMES[0], "install", NAMES[1], "install"]

    offer(node, *theirs[old], *theirs[new])
    how |= {"persistence_restore_packages": ["nvidia-persistenced"], "persistence_update_cache": True}
    refused = controller.play("rollback", [node], **how)
    assert "apt-get would also upgrade or remove libcfg, so nothing was changed" in refused.text, refused.text
    assert program(node) == OURS

    how["persistence_restore_packages"] = [f"nvidia-persistenced={old}"]
    controller.apply("rollback", [node], **how)
    assert program(node) == THEIRS and node.try_exec("which", "holdfast").status == 1
    assert node.exec("dpkg-query", "--show", "--showformat=${Version}", "libcfg") == old
    assert controller.apply("rollback", [node], **how).changed(node) == []


def test_a_rollback_removes_a_package_whose_installation_has_failed(controller, fresh, current):
    node, package = fresh, NAMES[1]
    controller.apply("enable", [node], **current)
    node.exec("sed", "-i", f"/^Package: {package}$/,/^$/s/^Status: .*/Status: install ok half-configured/", "/var/lib/dpkg/status")
    assert node.exec("dpkg-query", "--show", "--showformat=${db:Status-Status}", package) == "half-configured"
    controller.apply("rollback", [node], **current)
    assert node.gpus.users() == [0] * GPUS and node.try_exec("which", "nvidia-persistenced").status == 1


def test_the_legacy_flag_is_switched_off_with_the_gpus_held(controller, fresh, current):
    fresh.gpus.ctl("legacy", gpu="all")
    fresh.put(NVML, "/usr/lib/libnvidia-ml.so.1")
    fresh.exec("echo HOLDFAST_SIM_SOCKET=/run/holdfast-sim/socket >>/etc/environment")
    how = {"persistence_clear_legacy_flag": True, "persistence_nvml": "/usr/lib/libnvidia-ml.so.1", **current}
    controller.apply("enable", [fresh], **how)
    assert [gpu["legacy"] for gpu in fresh.gpus.status()["gpus"]] == [False] * GPUS
    assert_warm(fresh)
    assert controller.apply("enable", [fresh], **how).changed(fresh) == []
