# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""fleet/kubernetes and fleet/node-problem-detector: manifests against the API's schemas, probes and the plugin against daemons
in each state, the image as a container."""

import json
import operator
import os
import re
import shutil
import signal
import subprocess
import time
from copy import deepcopy
from pathlib import Path

import jsonpatch
import pytest
import yaml
from conftest import TOP
from harness import events, process
from harness.command import BUILD, PROGRAM
from harness.node import FAILED, OPENING, THREE, Row

FOLDER = TOP / "fleet/kubernetes"
OVERLAYS = ("base", "overlays/privileged", "overlays/gke", "overlays/gpu-operator")
NPD = json.loads((TOP / "fleet/node-problem-detector/holdfast.json").read_text())
MODELS = Path(__file__).resolve().parent / "kubernetes"
NPD_DEFAULT_LENGTH = 80  # of a message, unless max_output_length says otherwise


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            pytest.skip(f"{tool} is missing (scripts/setup fleet installs it)")


# ---- manifests ---------------------------------------------------------------


def load(path):
    return list(yaml.safe_load_all(path.read_text()))


def chosen_by(target, thing):
    return thing["kind"] == target["kind"] and thing["metadata"]["name"] == target["name"]


def build(folder):
    """Returns what kustomize builds from a folder. Supports only resources, and JSON patches of named objects."""
    recipe, = load(folder / "kustomization.yml")
    assert set(recipe) <= {"apiVersion", "kind", "resources", "patches"}, f"{folder}: build() lacks some of {set(recipe)}"
    objects = []
    for name in recipe["resources"]:
        objects += build(folder / name) if (folder / name).is_dir() else load(folder / name)
    for patch in recipe.get("patches", ()):
        operations, = load(folder / patch["path"])
        hit = [i for i, thing in enumerate(objects) if chosen_by(patch["target"], thing)]
        assert hit, f"{folder}: {patch} changes nothing"
        for i in hit:
            objects[i] = jsonpatch.apply_patch(objects[i], operations)
    return objects


def kustomize(folder):
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def daemonset(overlay="base"):
    found, = (thing for thing in build(FOLDER / overlay) if thing["kind"] == "DaemonSet")
    return found


def pod(overlay="base"):
    return daemonset(overlay)["spec"]["template"]["spec"]


def container(overlay="base", name="daemon"):
    found, = (one for one in pod(overlay)["containers"] if one["name"] == name)
    return found


@pytest.fixture(scope="module")
def validate():
    """Calls validate.mjs with objects. Its packages are in the build directory; npm runs again when the lock file has changed."""
    need("node", "npm")
    folder = BUILD / "kubernetes-models"
    lock = (MODELS / "package-lock.json").read_text()
    installed = folder / "installed-lock.json"
    if not installed.exists() or installed.read_text() != lock:
        folder.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(MODELS / name, folder)
        done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, timeout=100,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"npm could not install the API's schemas:\n{done.stderr}"
        installed.write_text(lock)

    def run(objects):
        done = subprocess.run(["node", MODELS / "validate.mjs"], cwd=folder, input=json.dumps(objects), timeout=60,
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_is_valid_for_the_api(validate, overlay):
    objects = build(FOLDER / overlay)
    if shutil.which("kubectl"):  # no distribution packages it, so it only confirms build()
        by_name = operator.itemgetter("kind")
        assert sorted(objects, key=by_name) == sorted(kustomize(FOLDER / overlay), key=by_name)
    status, said = validate(objects)
    assert status == 0, said


@pytest.mark.parametrize("spoil, words", [
    (lambda spec: spec.pop("containers"), "required property containers"),
    (lambda spec: spec.update(hostPID="yes"), "hostPID must be boolean"),
    (lambda spec: spec.update(tolerration=[]), "'\"tolerration\"' does not exist"),
    (lambda spec: spec["containers"][0].update(livenesProbe={}), "'\"livenesProbe\"' does not exist"),
])
def test_the_manifest_validator_finds_a_fault(validate, spoil, words):
    spoilt = deepcopy(daemonset())
    spoil(spoilt["spec"]["template"]["spec"])
    status, said = validate([spoilt])
    assert status == 1 and words in said


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_has_only_the_privileges_that_it_needs(overlay):
    assert {thing["kind"] for thing in build(FOLDER / overlay)} <= {"Namespace", "DaemonSet", "ResourceQuota"}  # no RBAC
    spec = pod(overlay)
    assert spec["automountServiceAccountToken"] is False and "serviceAccountName" not in spec
    assert not spec.get("hostNetwork") and not spec.get("hostIPC") and spec["hostPID"] is True
    paths = {volume["hostPath"]["path"] for volume in spec["volumes"] if "emptyDir" not in volume}
    keeper = container(overlay, "keeper")["securityContext"]
    assert keeper["capabilities"] == {"drop": ["ALL"]} and not keeper.get("privileged"), "the keeper has privileges"
    context = container(overlay)["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    if overlay in ("base", "overlays/gpu-operator"):
        assert paths == {"/run/nvidia-persistenced"}
        assert context["capabilities"] == {"drop": ["ALL"]} and not context["allowPrivilegeEscalation"]
        assert not context.get("privileged") and spec["runtimeClassName"] == "nvidia"
    else:
        assert paths == {"/run/nvidia-persistenced", "/dev"} and context["privileged"] is True
        assert "runtimeClassName" not in spec


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_pages_own_overlay_gives_the_daemon_its_image_a_configuration_and_a_label(tmp_path, folder):
    need("kubectl")
    overlay, *more = re.findall(r"```yaml\n(.*?)```", (TOP / "docs/kubernetes.md").read_text(), re.DOTALL)
    whole = yaml.safe_load(overlay)
    assert whole["resources"] == ["fleet/kubernetes/base"]
    whole["resources"] = [f"fleet/kubernetes/{folder}"]
    patches = []
    for part in map(yaml.safe_load, more):
        patches += part.pop("patches", [])
        whole |= part
    # As on the page, the overlay is in the root of a checkout.
    (tmp_path / "fleet").mkdir()
    shutil.copytree(FOLDER, tmp_path / "fleet/kubernetes")
    (tmp_path / "holdfast.conf").write_text("[gpu *]\n")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(whole | {"patches": patches}))

    made = kustomize(tmp_path)
    found, = (thing["spec"]["template"]["spec"] for thing in made if thing["kind"] == "DaemonSet")
    given, = (thing for thing in made if thing["kind"] == "ConfigMap")
    daemon, keeper = found["containers"]
    version = re.search(r"version: '(.*)'", (TOP / "meson.build").read_text())[1]
    assert daemon["image"] == keeper["image"] == f"registry.example.org/holdfast:{version}"
    assert daemon["securityContext"] == container(folder)["securityContext"]
    mount, = (one for one in daemon["volumeMounts"] if one["mountPath"] == "/etc/holdfast")
    volume, = (one for one in found["volumes"] if one["name"] == mount["name"])
    assert volume["configMap"]["name"] == given["metadata"]["name"]
    assert given["metadata"]["namespace"] == "holdfast" and "holdfast.conf" in given["data"]
    assert found["nodeSelector"]["example.org/holdfast"] == "true"


def test_each_overlay_selects_the_nodes_it_is_for():
    assert pod()["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod("overlays/gpu-operator")["nodeSelector"]["nvidia.com/gpu.deploy.client"] == "true"
    terms = pod("overlays/gke")["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] == "cloud.google.com/gke-accelerator"
    assert pod("overlays/gke")["nodeSelector"] == {}
    for overlay in OVERLAYS:
        assert pod(overlay)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


# ---- probes ------------------------------------------------------------------


def probe(world, name):
    """Returns whether the kubelet would regard the probe as passed."""
    probe_of = container()[name]
    program, *arguments = probe_of["exec"]["command"]
    assert program == "/usr/bin/holdfast"
    done = subprocess.run([PROGRAM, *arguments], env=world.site.environment | {"HOLDFAST_ROOT": str(world.site.root)},
                          capture_output=True, text=True, timeout=probe_of["timeoutSeconds"], check=False)
    assert not re.search(process.SANITIZER_FINDING, done.stderr), done.stderr
    return done.returncode == 0


def probes(world):
    return {name: probe(world, f"{name}Probe") for name in ("startup", "liveness", "readiness")}


def test_a_pod_without_a_driver_is_alive_but_not_ready(world):
    world.without_driver()
    assert probes(world) == {"startup": False, "liveness": False, "readiness": False}
    daemon = world.begin(*container()["args"])
    daemon.wait_socket()
    assert probes(world) == {"startup": True, "liveness": True, "readiness": False}


def test_a_failed_gpu_makes_the_pod_unready_but_does_not_restart_it(world):
    world.simulate(gpu1="fail_opens = all")
    world.start(*container()["args"])
    assert probes(world) == {"startup": True, "liveness": True, "readiness": False}
    world.sim.ctl("fail", gpu=world.gpus[1], count=0)
    assert subprocess.run([PROGRAM, "--root", world.site.root, "wait", "--timeout=20"], check=False,
                          capture_output=True).returncode == 0
    assert probes(world) == {"startup": True, "liveness": True, "readiness": True}


def test_a_second_daemon_on_the_node_refuses_to_start_and_says_why(world):
    first = world.start(*container()["args"])
    done = world.run(*container()["args"])
    assert done.returncode == 1
    assert f"another persistence daemon runs (pid {first.pid} holds" in done.stderr and "stop it first" in done.stderr
    assert probe(world, "readinessProbe") and world.sim.users() == [1, 1]


def test_the_pods_grace_period_is_long_enough_for_a_stop(world):
    daemon = world.start(*container()["args"])
    assert daemon.stop() == 0  # within the daemon's own limit
    assert pod()["terminationGracePeriodSeconds"] > 5


# ---- node-problem-detector ---------------------------------------------------


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def run_as_npd(root, length=None):
    """Runs the rule as node-problem-detector does: it reads 4096 bytes of output, trims and then cuts them. Exit status 0 means
    no problem, 1 a problem, any other is unknown."""
    rule, = NPD["rules"]
    assert rule["path"] == "/usr/bin/holdfast"
    done = subprocess.run([PROGRAM, *rule["args"]], env=os.environ | process.SANITIZER_ENVIRONMENT | {"HOLDFAST_ROOT": str(root)},
                          capture_output=True, timeout=seconds(rule["timeout"]), check=False)
    message = done.stdout[:4096].strip()
    assert message and b"\n" not in message and not done.stderr
    verdict = {0: "ok", 1: "problem"}.get(done.returncode, "unknown")
    return verdict, message[:length or NPD["pluginConfig"]["max_output_length"]].decode()


def test_npd_accepts_the_plugins_configuration():
    assert set(NPD) <= {"plugin", "pluginConfig", "source", "metricsReporting", "conditions", "rules"}
    assert NPD["plugin"] == "custom" and NPD["source"]
    assert set(NPD["pluginConfig"]) <= {"invoke_interval", "timeout", "max_output_length", "concurrency",
                                        "enable_message_change_based_condition_update", "skip_initial_status"}
    presets = {condition["type"] for condition in NPD["conditions"]}
    for rule in NPD["rules"]:
        assert seconds(rule["timeout"]) <= seconds(NPD["pluginConfig"]["timeout"]) < seconds(NPD["pluginConfig"]["invoke_interval"])
        assert rule["type"] == "permanent" and rule["condition"] in presets
    for thing in NPD["conditions"] + NPD["rules"]:
        assert re.fullmatch(r"[A-Z][A-Za-z]+", thing["reason"])


def test_a_node_whose_gpus_are_held_has_no_problem(make_node):
    node = with_gpus(make_node)
    node.start_daemon(rows=[Row(address) for address in THREE])
    assert run_as_npd(node.root) == ("ok", "3 of 3 GPUs held by Holdfast 9.8.7")


def with_gpus(make_node):
    node = make_node()
    node.load_driver()
    for minor, address in enumerate(THREE):
        node.add_gpu(address, minor)
    return node


def test_npd_names_a_failed_gpu_even_in_a_message_of_the_default_length(make_node):
    node = with_gpus(make_node)
    error = "cannot open /dev/nvidia1: Input/output error, NV_ERR_INSUFFICIENT_POWER; " + "the GPU did not initialise; " * 40
    node.start_daemon(rows=[Row(THREE[0]), Row(THREE[1], FAILED, error=error[:250]), Row(THREE[2])])
    verdict, message = run_as_npd(node.root)
    assert verdict == "problem" and len(message) <= 512 and message.endswith("2 of 3 GPUs held by Holdfast 9.8.7")
    verdict, message = run_as_npd(node.root, NPD_DEFAULT_LENGTH)
    assert len(message) == NPD_DEFAULT_LENGTH and message.startswith(f"GPU 1 ({THREE[1]}) failed: cannot open /dev/nvidia1: ")


def test_a_gpu_that_is_opening_and_a_node_without_daemon_are_problems(make_node):
    node = with_gpus(make_node)
    verdict, message = run_as_npd(node.root)
    assert verdict == "problem" and "no persistence daemon is running" in message[:NPD_DEFAULT_LENGTH]
    node.start_daemon(rows=[Row(THREE[0], OPENING), Row(THREE[1]), Row(THREE[2])])
    assert run_as_npd(node.root)[0] == "problem"


def test_a_node_without_driver_is_unknown_and_a_silent_daemon_a_problem_in_time(make_node):
    assert run_as_npd(make_node().root)[0] == "unknown"
    node = with_gpus(make_node)
    node.start_daemon(silent=True)
    begin = time.monotonic()
    assert run_as_npd(node.root)[0] == "problem"
    assert time.monotonic() - begin < seconds(NPD["rules"][0]["timeout"])


# ---- the image ---------------------------------------------------------------


class Image:
    """The image, and its containers: buildah runs them in their own root and in the node's PID namespace. The simulated driver's
    tree is mounted instead of what the NVIDIA runtime mounts."""

    def __init__(self, folder):
        self.environment = os.environ | process.SANITIZER_ENVIRONMENT | {
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "HOLDFAST_BUILD": str(BUILD)}
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n')
        self.call(FOLDER / "build-image", "holdfast:test")

    def call(self, *command):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def command(self, name, root, *arguments, capabilities="--cap-drop=ALL"):
        settings = [f"--env={key}={value}" for key, value in process.SANITIZER_ENVIRONMENT.items()]
        settings.append(f"--env={process.ROOT_VARIABLE}={root}")
        return ["buildah", "run", "--isolation=chroot", capabilities, "--env=HOLDFAST_ROOT=/mnt", *settings,
                f"--volume={root}:/mnt", name, "--", *arguments]

    def run(self, name, root, *arguments):
        return subprocess.run(self.command(name, root, *arguments), env=self.environment, capture_output=True, text=True,
                              timeout=60, check=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    need("buildah", "mmdebstrap", "dpkg-shlibdeps")
    return Image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def containers(image):
    """Makes containers, and removes them after the test."""
    names = []

    def make():
        names.append(image.call("buildah", "from", "--quiet", "localhost/holdfast:test"))
        return names[-1]

    yield make
    for name in names:
        image.call("buildah", "rm", name)


def test_the_image_starts_what_the_manifest_expects_and_has_no_shell(image, containers):
    config = json.loads(image.call("buildah", "inspect", "--type=image", "localhost/holdfast:test"))["OCIv1"]["config"]
    assert config["Entrypoint"] == ["/usr/libexec/holdfast/nvidia-persistenced"] and container()["args"] == [
        *config["Cmd"], "--keeper-from=socket"]
    assert config["StopSignal"] == "SIGUSR1", "a container that restarts leaves its GPUs with the keeper's container"
    root = Path(image.call("buildah", "mount", containers()))
    assert sorted(path.name for folder in ("bin", "usr/bin", "usr/sbin", "usr/libexec/holdfast")
                  for path in (root / folder).glob("*") if os.access(path, os.X_OK) and path.is_file()) == [
                      "holdfast", "nvidia-persistenced"]
    for mount in container()["volumeMounts"]:
        assert (root / mount["mountPath"][1:]).is_dir()
    assert not (root / "var/run").is_symlink()
    assert "Version: " in (root / "var/lib/dpkg/status.d/libc6").read_text()


@pytest.mark.parametrize("capabilities", ["--cap-drop=ALL", "--cap-add=CAP_SYS_ADMIN"])
def test_the_image_holds_gpus_without_a_capability_and_its_probes_answer(image, containers, world, capabilities):
    """Starts the daemon as `base` does. In a privileged container the daemon drops every capability, too."""
    world.simulate()
    name, root = containers(), world.site.root
    command = image.command(name, root, "/usr/libexec/holdfast/nvidia-persistenced", "--root=/mnt", *container()["args"],
                            capabilities=capabilities)
    daemon = subprocess.Popen(command, env=image.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
    log = events.Lines("the container's log", daemon.stderr)
    try:
        log.wait_for("Ready: 2 of 2 GPUs held", 30)
        pid = world.site.pid_in_file()
        status = Path(f"/proc/{pid}/status").read_text()
        assert {int(mask, 16) for mask in re.findall(r"^Cap(?:Prm|Eff|Bnd):\t(\w+)$", status, re.MULTILINE)} == {0}
        assert re.search(r"^NSpid:\t\d+$", status, re.M)
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            done = image.run(name, root, *container()[kind]["exec"]["command"])
            assert done.returncode == 0, done.stdout + done.stderr
        os.kill(pid, 15)
        assert daemon.wait(timeout=10) == 0
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
    log.wait_end(5)
    assert log.has("Shutdown") and not log.has(process.SANITIZER_FINDING)
    world.sim.wait_users(0, 0)


class Container:
    """A container of the image that runs the program with these arguments until it ends."""

    def __init__(self, image, name, root, arguments):
        command = image.command(name, root, "/usr/libexec/holdfast/nvidia-persistenced", "--root=/mnt", *arguments)
        self._process = subprocess.Popen(command, env=image.environment, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.log = events.Lines("the container's log", self._process.stderr)

    def wait(self):
        try:
            return self._process.wait(timeout=20)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self.log.wait_end(5)


def test_a_daemon_of_the_pod_that_is_killed_or_restarted_tears_no_gpu_down(image, containers, world):
    world.simulate()
    root = world.site.root
    (root / "run/holdfast").mkdir()
    keeper = Container(image, containers(), root, container(name="keeper")["args"])
    events.wait_until((root / "run/holdfast/keeper").exists, "the keeper's socket", timeout=30)
    name = containers()
    for number in (signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM):
        daemon = Container(image, name, root, container()["args"])
        daemon.log.wait_for("Ready: 2 of 2 GPUs held", 30)
        os.kill(world.site.pid_in_file(), number)
        daemon.wait()
        expected = 1 if number == signal.SIGTERM else 0
        events.wait_until(lambda: [gpu["teardowns"] for gpu in world.sim.status()["gpus"]] == [expected] * 2,
                          f"{expected} teardowns of each GPU", 20)
    keeper_pid, = world.site.keepers()
    os.kill(keeper_pid, signal.SIGUSR1)
    assert keeper.wait() == 0
