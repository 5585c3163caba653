# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Prometheus and its exporters, on ports that the kernel chooses. Our alerting rules wait for 1 s instead of minutes."""

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml

from . import events

FOLDER = Path(__file__).resolve().parent.parent.parent.parent / "fleet/prometheus"
RULES = FOLDER / "holdfast.rules.yml"


class Server:
    """Prometheus or an exporter. prefix: goes before its command, and before each command that connects to it."""

    def __init__(self, program, *options, prefix=()):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing (scripts/setup fleet installs it)")
        self._prefix = prefix
        self._process = subprocess.Popen([*prefix, program, *options, "--web.listen-address=127.0.0.1:0"],
                                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.log = events.Lines(program, self._process.stderr)

    def wait_listening(self):
        self.address = self.log.wait_for(r'msg="Listening on" address=(\S+)', 30)[1]
        return self

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            return answer.read().decode()

    def stop(self):
        self._process.terminate()
        assert self._process.wait(timeout=20) in (0, -15), self.log.text()


class Prometheus(Server):
    """Prometheus with our configuration and rules, but with these targets."""

    def __init__(self, folder, targets, interval="250ms", **how):
        (folder / RULES.name).write_text(self._rules())
        (folder / "prometheus.yml").write_text(self._configuration(targets, interval))
        super().__init__("prometheus", f"--config.file={folder / 'prometheus.yml'}",
                         f"--storage.tsdb.path={folder / 'tsdb'}", **how)

    @staticmethod
    def _rules():
        rules = yaml.safe_load(RULES.read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "1s"
        return yaml.safe_dump(rules)

    @staticmethod
    def _configuration(targets, interval):
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {f"{what}_{kind}": interval for what, kind in
                            (("scrape", "interval"), ("scrape", "timeout"), ("evaluation", "interval"))}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = targets
        return yaml.safe_dump(config)

    def wait_ready(self):
        self.log.wait_for("Server is ready to receive web requests", 30)

    def query(self, expression):
        """The current series of the expression, each with its labels (metric) and its value."""
        command = [*self._prefix, "promtool", "query", "instant", "--format=json", f"http://{self.address}", expression]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, timeout=30, check=True).stdout)

    def value(self, expression):
        """The value of an expression with at most one series; None if there is none."""
        series = self.query(expression)
        assert len(series) <= 1, series
        return float(series[0]["value"][1]) if series else None

    def firing(self, label):
        """The names of the firing alerts, each with the value of the label."""
        alerts = (series["metric"] for series in self.query('ALERTS{alertstate="firing"}'))
        return {(alert["alertname"], alert.get(label)) for alert in alerts}
