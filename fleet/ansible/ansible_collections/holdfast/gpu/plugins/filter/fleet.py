# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What playbooks tell of all nodes together, from what the playbook "look" found on each."""

COLUMNS = ("node", "verdict", "service", "held", "what is wrong")


def result_of(host, hostvars):
    return hostvars[host].get("holdfast_looked") or {}


def facts_of(host, hostvars):
    return (result_of(host, hostvars).get("ansible_facts") or {}).get("holdfast")


def why_not(result):
    """Why there are no facts of a node, in a sentence."""
    text = " ".join(str(result.get("module_stderr") or result.get("msg") or "it was not looked at").split())
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
    """A dict for each node, with COLUMNS; those that are well come first, so that a long table ends with the others."""
    return sorted((row_of(host, hostvars) for host in hosts), key=lambda row: row["verdict"] != "OK")


def table(found):
    """Lines to be printed."""
    lines = [dict(zip(COLUMNS, COLUMNS)), *found]
    widths = {column: max(len(line[column]) for line in lines) for column in COLUMNS[:-1]}
    return ["  ".join([line[column].ljust(width) for column, width in widths.items()] + [line[COLUMNS[-1]]])
            for line in lines]


def answers(hosts, hostvars):
    """Of each node what holdfast-fleet-report reads: its status, or why there is none."""
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
