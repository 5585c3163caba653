# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The results of the checks: prints a line for each while they run, and writes a JSON record and a Markdown page at the end."""

import json
import traceback

PASS, FAIL, NOT_POSSIBLE = "PASS", "FAIL", "NOT-POSSIBLE"


class Failed(Exception):
    """A check failed; the text is the evidence."""


class NotPossible(Exception):
    """A check is not possible on this machine; the text says why."""


def expect(claim, evidence):
    if not claim:
        raise Failed(evidence)


class Record:
    def __init__(self):
        self.facts = {}    # about the machine
        self.results = []  # of the checks, in order
        self.outputs = {}  # complete output of commands, by their command line
        self.figures = {}  # measurements

    def check(self, phase, title, function, *arguments):
        """Runs one check, whose return value is the evidence. Returns whether it passed."""
        try:
            status, evidence = PASS, function(*arguments)
        except NotPossible as reason:
            status, evidence = NOT_POSSIBLE, str(reason)
        except Failed as finding:
            status, evidence = FAIL, str(finding)
        except Exception as fault:  # an unexpected machine must not prevent the other checks
            status = FAIL
            evidence = f"{type(fault).__name__}: {fault} ({traceback.extract_tb(fault.__traceback__)[-1].name})"
        self.add(phase, title, status, evidence)
        return status == PASS

    def add(self, phase, title, status, evidence):
        evidence = " ".join(str(evidence).split())
        self.results.append({"phase": phase, "check": title, "status": status, "evidence": evidence})
        print(f"{status:<12} {title}: {evidence}", flush=True)

    def count(self, status):
        return sum(result["status"] == status for result in self.results)

    @property
    def summary(self):
        return f"{self.count(PASS)} passed, {self.count(FAIL)} failed, {self.count(NOT_POSSIBLE)} not possible here"

    def write(self, folder, name, simulated):
        """Writes NAME.json and NAME.md into the folder, which it makes. Returns the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}.json", folder / f"{name}.md"]
        document = {"schema": "holdfast.hardware/1", "simulated": simulated, "facts": self.facts,
                    "results": self.results, "figures": self.figures, "outputs": self.outputs}
        paths[0].write_text(json.dumps(document, indent=2) + "\n")
        paths[1].write_text(self._page(name, simulated))
        return paths

    def _page(self, name, simulated):
        lines = ["<!-- SPDX-License-Identifier: MIT -->", "<!-- SPDX-FileCopyrightText: The Holdfast authors -->", "",
                 f"# Trial {name}", ""]
        if simulated:
            lines += ["**On the simulated driver, not on hardware: all times are those of a model.**", ""]
        lines += [f"{self.summary}. Made by tests/hardware/run, which docs/hardware.md describes.", "",
                  *table("fact", "value", self.facts.items())]
        for phase in dict.fromkeys(result["phase"] for result in self.results):
            lines += [f"## {phase}", "", "| | check | evidence |", "|---|---|---|"]
            lines += [f"| {result['status']} | {cell(result['check'])} | {cell(result['evidence'])} |"
                      for result in self.results if result["phase"] == phase] + [""]
        lines += ["## Measurements", "", *table("figure", "value", self.figures.items()),
                  "## Output of commands", ""]
        for command, text in self.outputs.items():
            lines += [f"### {command}", "", "```", text.rstrip(), "```", ""]
        return "\n".join(lines)


def cell(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "\\|").replace("\n", " ")


def table(left, right, rows):
    return [f"| {left} | {right} |", "|---|---|"] + [f"| {cell(key)} | {cell(value)} |" for key, value in rows] + [""]
