# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Filters for playbooks about all nodes. They read what the role's tasks look.yml found on each node."""

COLUMNS = ("node", "verdict", "service", "held", "what is wrong")


def result_of(host, hostvars):
    return hostvars[host].get("holdfast_looked") or {}


def facts_of(host, hostvars):
    return (result_of(host, hostvars).get("ansible_facts") or {}).get("holdfast")


def why_not(result):
    """Returns a sentence: why there are no facts about a node."""
    text = " ".join(str(result.get("module_stderr") or result.get("msg") or "the module did not run").split())
    return ("cannot be reached: " if result.get("unreachable") else "cannot be examined: ") + text[-300:]


def row_of(host, hostvars):
    facts = facts_of(host, hostvars)
    if facts is None:
        result = result_of(host, hostvars)
        verdict = "UNREACHABLE" if result.get("unreachable") else "UNKNOWN"
        return {"node": host, "verdict": verdict, "service": "?", "held": "?", "what is wrong": why_not(result)}
    service, check = facts["service"], facts["check"]
    return {
        "node": host,
        "verdict": facts["verdict"],
        "service": "{0}, {1}".format(service["active_state"] or "none", service["enabled"] or "none"),
        "held": "{0}/{1}".format(check["held"], check["gpus"]) if check else "?",
        "what is wrong": facts["fault"] or "-",
    }


def rows(hosts, hostvars):
    """Returns a dict with COLUMNS for each node. Nodes with problems come last, so the end of a long table shows them."""
    return sorted((row_of(host, hostvars) for host in hosts), key=lambda row: row["verdict"] != "OK")


def table(found):
    """Formats rows as lines of text with aligned columns."""
    lines = [dict(zip(COLUMNS, COLUMNS)), *found]
    widths = {column: max(len(line[column]) for line in lines) for column in COLUMNS[:-1]}
    return ["  ".join([line[column].ljust(width) for column, width in widths.items()] + [line[COLUMNS[-1]]])
            for line in lines]


def answers(hosts, hostvars):
    """Returns the input of holdfast-fleet-report: each node's status, or why there is none."""
    return [answer_of(host, hostvars) for host in hosts]


def answer_of(host, hostvars):
    facts = facts_of(host, hostvars)
    if facts is None:
        return {"node": host, "error": why_not(result_of(host, hostvars))}
    if facts["status"] is None:
        return {"node": host, "error": facts["fault"] or "holdfast status gives no answer"}
    return {"node": host, "status": facts["status"]}


class FilterModule:
    def filters(self):
        return {"answers": answers, "rows": rows, "table": table}
