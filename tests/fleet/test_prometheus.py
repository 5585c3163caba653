# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""fleet/prometheus: the rules and the dashboard, checked by promtool and against the metrics, and used by a real Prometheus."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import TOP
from harness import events
from harness.command import holdfast
from harness.node import THREE, Row
from harness.prometheus import FOLDER, RULES, Prometheus, Server

DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())

METRIC = re.compile(r"\bholdfast_\w+")
RECORDED = re.compile(r"\b\w+:\w+:\w+\b")
OTHERS = {"up", "ALERTS"}  # metrics of Prometheus itself

GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]
RECORDINGS = [rule for group in GROUPS for rule in group["rules"] if "record" in rule]


def tool(*command, **how):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is missing (scripts/setup fleet installs it)")
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **how)


def promtool(*arguments):
    done = tool("promtool", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def render(*arguments):
    return subprocess.run([FOLDER / "render", *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def exported(make_node):
    """The names of all metrics, from a daemon that reports every one of them."""
    node = make_node()
    node.load_driver()
    for minor, address in enumerate(THREE):
        node.add_gpu(address, minor)
    node.start_daemon(rows=[Row(address) for address in THREE])
    settings = node.root / "run/holdfast-settings/state.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"schema": "holdfast.settings/1", "pid": os.getpid(), "gpus": []}))
    return set(re.findall(r"^# TYPE (\w+)", holdfast(node.root, "metrics").out, re.MULTILINE))


# ---- the rules ---------------------------------------------------------------


def test_the_rules_are_valid_for_prometheus():
    assert f"{len(ALERTS) + len(RECORDINGS)} rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_the_example_configuration_is_valid_for_prometheus():
    promtool("check", "config", FOLDER / "prometheus.yml")


def test_the_rules_pass_their_unit_tests():
    promtool("test", "rules", FOLDER / "holdfast.rules.test.yml")


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    tests = yaml.safe_load((FOLDER / "holdfast.rules.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    does_not = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fires == does_not == {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_follows_the_conventions(alert):
    """The conventions of the monitoring mixins: a common first component, a severity, a static summary, a runbook."""
    assert re.fullmatch(r"Holdfast([A-Z][a-z]+)+", alert["alert"])
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    summary, description = alert["annotations"]["summary"], alert["annotations"]["description"]
    assert summary.endswith(".") and "{{" not in summary and len(summary) < 80
    assert description.endswith(".") and "{{ $labels.instance }}" in description
    page = re.fullmatch(r"https://holdfast\.example/runbooks/([a-z-]+\.md)", alert["annotations"]["runbook_url"])
    assert (TOP / "docs/runbooks" / page[1]).exists()


def test_the_index_of_the_runbooks_has_each_alert_at_its_page():
    index = (TOP / "docs/runbooks/README.md").read_text()
    rows = re.findall(r"^\| \[[a-z-]+\]\(([a-z-]+\.md)\) \|.*\| (.*) ?\|$", index, re.MULTILINE)
    listed = {(f"Holdfast{name.strip()}", page) for page, names in rows for name in names.split(",") if name.strip()}
    assert listed == {(alert["alert"], alert["annotations"]["runbook_url"].rpartition("/")[2]) for alert in ALERTS}


def test_the_handbook_lists_each_alert_with_its_severity():
    listed = re.findall(r"^\| (Holdfast\w+) \| (\w+) \|", (TOP / "docs/fleet.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted((alert["alert"], alert["labels"]["severity"]) for alert in ALERTS)


def test_recording_rules_are_named_level_metric_operation():
    for rule in RECORDINGS:
        level, metric, operation = rule["record"].split(":")
        assert level and metric.startswith("holdfast_") and operation, rule["record"]


def test_the_rules_use_only_metrics_that_are_exported_or_recorded(exported):
    recorded = {rule["record"] for rule in RECORDINGS}
    for rule in ALERTS + RECORDINGS:
        check_metrics(rule["expr"], exported, recorded)


def check_metrics(expression, exported, recorded):
    """Checks that each name in the expression is a metric. Quoted texts and labels are not names of metrics."""
    names = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]', "", expression)
    from_rules = set(RECORDED.findall(names))
    plain = set(METRIC.findall(RECORDED.sub("", names)))
    assert from_rules <= recorded, f"not recorded: {from_rules - recorded}"
    assert plain <= exported, f"not exported: {plain - exported}"
    assert from_rules or plain or OTHERS & set(re.findall(r"\w+", names)), f"no metric in {expression}"


# ---- the operator's form -----------------------------------------------------


def test_the_prometheusrule_is_the_rules():
    committed = (FOLDER / "prometheusrule.yml").read_text()
    assert committed == render("--kubernetes").stdout, \
        "make it again: fleet/prometheus/render --kubernetes > fleet/prometheus/prometheusrule.yml"
    manifest = yaml.safe_load(committed)
    assert (manifest["apiVersion"], manifest["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert manifest["metadata"]["name"] and manifest["spec"] == {"groups": GROUPS}


def test_links_lead_to_your_own_runbooks():
    rules = yaml.safe_load(render("--runbooks", "https://wiki.example.org/gpu/").stdout)
    links = [rule["annotations"]["runbook_url"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    assert all(link.startswith("https://wiki.example.org/gpu/") and "//" not in link[8:] for link in links)
    assert len(links) == len(ALERTS)


@pytest.mark.parametrize("arguments", [
    ["--runbooks"], ["--runbooks", "wiki"], ["--runbooks", "https://a b"], ["--runbooks", 'https://a"}'], ["rules"]])
def test_an_invalid_link_is_refused(arguments):
    done = render(*arguments)
    assert done.returncode == 2 and done.stdout == "" and done.stderr


# ---- the dashboard -----------------------------------------------------------

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def test_each_query_uses_only_metrics_that_are_exported_or_recorded(exported):
    recorded = {rule["record"] for rule in RECORDINGS}
    for query in QUERIES + [variable["query"]["query"] for variable in VARIABLES.values() if variable["type"] == "query"]:
        check_metrics(query, exported, recorded)


def test_each_query_is_valid_promql(tmp_path):
    rules = [{"record": f"dashboard:query:{i}", "expr": query.replace("$__rate_interval", "5m")}
             for i, query in enumerate(QUERIES)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(QUERIES)} rules found" in promtool("check", "rules", "--lint=none", file)


def test_each_query_uses_variables_that_exist():
    used = {name for query in QUERIES for name in re.findall(r"\$(\w+)", query)} - {"__rate_interval"}
    assert used <= set(VARIABLES) and {"job", "instance"} <= used


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel['id']}-{panel['title']}")
def test_a_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"] and len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_panels_fit_into_24_columns_and_do_not_overlap():
    taken = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} overlaps {taken[cell]}"
            taken[cell] = panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_failures_come_first():
    first = min(PANELS, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    assert "holdfast_up" in first["targets"][0]["expr"]
    assert [row["title"] for row in DASHBOARD["panels"] if row["type"] == "row"][0] == "What is wrong"


# ---- with real servers --------------------------------------------------------


@pytest.fixture
def servers():
    """servers(kind, ...) starts a server, which is stopped after the test."""
    started = []

    def start(kind, *options):
        started.append(kind(*options))
        return started[-1].wait_listening()

    yield start
    for server in reversed(started):
        server.stop()


def test_alerts_come_and_go_in_a_real_prometheus_behind_a_real_node_exporter(world, tmp_path, servers):
    collector = tmp_path / "node-exporter"
    collector.mkdir()

    def write():
        result = holdfast(world.site.root, "metrics", "--textfile", collector / "holdfast.prom")
        assert result.status == 0, result.err

    exporter = servers(Server, "prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile",
                       f"--collector.textfile.directory={collector}")
    world.simulate(gpu1="fail_opens = all")
    daemon = world.begin("--verbose")
    daemon.wait_ready()
    write()
    scraped = exporter.get("/metrics")
    assert "node_textfile_scrape_error 0" in scraped and re.search(r'^holdfast_gpu_held\{gpu="0",.*\} 1$', scraped, re.M)

    prometheus = servers(Prometheus, tmp_path, [exporter.address])
    prometheus.wait_ready()
    events.wait_until(lambda: prometheus.firing("gpu") == {("HoldfastGpuFailed", "1")}, "an alert for GPU 1 alone", 30)
    daemon.stop()
    write()
    events.wait_until(lambda: ("HoldfastDown", None) in prometheus.firing("gpu"), "an alert for the stopped daemon", 30)
    world.sim.ctl("fail", gpu=world.gpus[1], count=0)
    world.start()
    write()
    events.wait_until(lambda: not prometheus.firing("gpu") and prometheus.value("job:holdfast_gpu_held:sum") == 2,
                      "no alert, and every GPU held", 30)
