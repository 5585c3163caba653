# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""fleet/report: valid and invalid answers of nodes become a table and a page, which a real browser shows."""

import copy
import csv
import io
import json
import os
import shutil
import stat
import subprocess
import time
from collections import Counter

import fleets
import jsonschema
import pytest
from browser import Browser
from conftest import TOP
from harness.command import holdfast

REPORT = TOP / "fleet/report/holdfast-fleet-report"
SCHEMA = jsonschema.Draft7Validator(json.loads((TOP / "docs/schemas/status.json").read_text()))


def report(*arguments, lines=None):
    text = None if lines is None else "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    return subprocess.run([REPORT, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)


def table(*arguments, lines=None):
    """Returns the rows of the CSV as dictionaries."""
    done = report("--csv", "-", *arguments, lines=lines)
    assert (done.returncode, done.stderr) == (0, "")
    return list(csv.DictReader(io.StringIO(done.stdout, newline="")))


def findings(*arguments, lines=None):
    """Returns {node: (verdict, findings)}, for nodes with one row."""
    return {row["node"]: (row["verdict"], row["findings"]) for row in table(*arguments, lines=lines)}


@pytest.fixture(scope="module")
def fleet_nodes():
    """A node of each kind."""
    nodes = []

    def make():
        nodes.append(fleets.Node())
        return nodes[-1]

    try:
        yield fleets.kinds_of_nodes(make)
    finally:
        for node in nodes:
            node.clean_up()


@pytest.fixture(scope="module")
def answers(fleet_nodes):
    """The output of `holdfast status --json` on each node, checked against the schema."""
    return fleets.answers_of(fleet_nodes)


@pytest.fixture
def healthy(answers):
    return copy.deepcopy(answers["healthy"])


# ---- the fleets of these tests -----------------------------------------------


def test_a_grown_fleet_has_answers_that_the_schema_allows(answers):
    for count in (3, 2000):
        lines = fleets.grow(answers, count)
        assert len({line["node"] for line in lines}) == count
        for line in lines[::max(count // 100, 1)]:
            if "status" in line:
                SCHEMA.validate(line["status"])
    assert fleets.grow(answers, 50) == fleets.grow(answers, 50)


# ---- the table ---------------------------------------------------------------


def test_the_table_has_a_row_for_each_gpu_and_for_each_node_without_gpus(answers):
    lines = fleets.grow(answers, 200)
    rows = table("-", lines=lines)
    expected = Counter()
    for line in lines:
        gpus = line["status"]["gpus"] if "status" in line else []
        expected.update((line["node"], gpu["bus_id"], gpu["state"]) for gpu in gpus)
        if not gpus:
            expected[(line["node"], "", "")] += 1
    assert Counter((row["node"], row["bus_id"], row["state"]) for row in rows) == expected


def test_what_needs_attention_comes_first_and_then_nodes_in_order_of_their_numbers(answers):
    lines = [{"node": f"n{i}", "status": answers["healthy"]} for i in (10, 9, 1)]
    lines += [{"node": "z", "status": answers["troubled"]}, {"node": "y", "error": "timeout"}]
    assert list(dict.fromkeys(row["node"] for row in table("-", lines=lines))) == ["z", "y", "n1", "n9", "n10"]


@pytest.mark.parametrize("what, verdict, words", [
    ("healthy", "ok", ""),
    ("troubled", "critical", "failed to initialise"),
    ("without daemon", "critical", "no persistence daemon is running"),
    ("silent", "critical", "did not answer within"),
    ("without driver", "unknown", "the driver is not loaded"),
])
def test_a_node_gets_the_verdict_that_holdfast_check_gives(fleet_nodes, answers, what, verdict, words):
    rows = table("-", lines=[{"node": "n", "status": answers[what]}])
    checked = holdfast(fleet_nodes[what].root, "check", "--json", *fleets.patience(what)).json("check")
    assert checked["verdict"].lower() == verdict
    assert min((row["verdict"] for row in rows), key=["critical", "unknown", "warning", "ok"].index) == verdict
    assert words in "".join(row["findings"] for row in rows)


def test_a_node_on_which_nvidias_daemon_holds_every_gpu_is_ok(answers):
    assert {row["verdict"] for row in table("-", lines=[{"node": "n", "status": answers["NVIDIA's daemon"]}])} == {"ok"}


def test_each_gpu_has_its_own_findings(answers):
    rows = table("-", lines=[{"node": "n", "status": answers["troubled"]}])
    expected = {"held": "", "failed": "failed to initialise: cannot open", "stuck": "stuck in the driver",
                "leased": "released for a lease", "released": "persistence mode is off", "closing": "being released",
                "excluded": ""}
    assert [row["state"] for row in rows] == ["held", "failed", "stuck", "leased", "released", "closing", "held", "excluded"]
    for row in rows[:6] + rows[7:]:
        assert expected[row["state"]] in row["findings"] and bool(expected[row["state"]]) == bool(row["findings"])
    assert "UVM persistence is not on yet: NV_ERR_NVLINK_FABRIC_NOT_READY" in rows[6]["findings"]


def test_a_gpu_that_is_off_as_configured_is_fine(healthy):
    healthy["gpus"][0] |= {"state": "released", "held": False, "persistence_mode": "off"}
    healthy["gpus"][0]["detail"] |= {"wanted": False, "configured": False}
    rows = table("-", lines=[{"node": "n", "status": healthy}])
    assert (rows[0]["verdict"], rows[0]["findings"], rows[0]["configured"]) == ("ok", "", "no")
    healthy["gpus"][0]["detail"]["configured"] = True
    rows = table("-", lines=[{"node": "n", "status": healthy}])
    assert rows[0]["verdict"] == "critical" and "persistence mode is off" in rows[0]["findings"]


def test_settings_that_are_not_as_wanted_are_findings_of_their_gpu(healthy):
    problem = "power-limit, wanted 900 W: 900 W is outside the GPU's range of 200 to 700 W"
    healthy["gpus"][1]["settings"] = {"applied": True, "problems": [problem]}
    rows = table("-", lines=[{"node": "n", "status": healthy}])
    assert (rows[1]["verdict"], rows[1]["findings"]) == ("warning", f"GPU 1 {rows[1]['bus_id']}: {problem}")
    assert (rows[0]["verdict"], rows[0]["findings"]) == ("ok", "")


def test_answers_of_versions_without_settings_are_accepted(healthy):
    for gpu in healthy["gpus"]:
        del gpu["settings"]
    assert {row["verdict"] for row in table("-", lines=[{"node": "n", "status": healthy}])} == {"ok"}


def test_a_spreadsheet_executes_no_text_of_a_node(healthy):
    healthy["gpus"][0]["name"] = "=HYPERLINK(A1)"
    rows = table("-", lines=[{"node": "@n", "status": healthy}, {"node": "-2+3", "error": "+1"}])
    assert {row["node"] for row in rows} == {"'@n", "'-2+3"}
    assert {row["name"] for row in rows} & {"'=HYPERLINK(A1)"} and not {row["name"] for row in rows} & {"=HYPERLINK(A1)"}


# ---- where answers come from -------------------------------------------------


def test_a_file_is_the_answer_of_the_node_that_it_is_named_after(answers, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/node1.json").write_text(json.dumps(answers["healthy"]))
    (tmp_path / "a/README.txt").write_text("no answer")
    (tmp_path / "node2.json").write_text(json.dumps({"node": "node2", "error": "unreachable"}))
    (tmp_path / "more.jsonl").write_text('{"node": "n3", "error": "a"}\n{"node": "n4", "error": "b"}\n')
    assert findings(tmp_path / "a", tmp_path / "node2.json", tmp_path / "more.jsonl") == {
        "node1": ("ok", ""), "node2": ("unknown", "unreachable"), "n3": ("unknown", "a"), "n4": ("unknown", "b")}


def test_a_node_cannot_answer_for_another_node(answers, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"node": "b", "error": "made up"}))
    (tmp_path / "b.json").write_text(json.dumps(answers["healthy"]))
    (tmp_path / "c.json").write_text(json.dumps({"node": "b", "status": answers["healthy"]}))
    stranger = ("unknown", "its answer belongs to another node: b")
    assert findings(tmp_path) == {"a": stranger, "b": ("ok", ""), "c": stranger}


def test_nodes_of_the_inventory_that_did_not_answer_are_reported(answers, tmp_path):
    names = tmp_path / "names"
    names.write_text("# all\nnode1\nnode2 # new\n\n")
    found = findings("--nodes", names, "-", lines=[{"node": "node1", "status": answers["healthy"]}])
    assert found == {"node1": ("ok", ""), "node2": ("unknown", "no answer")}


def test_an_old_file_is_not_an_answer(answers, tmp_path):
    file = tmp_path / "node1.json"
    file.write_text(json.dumps(answers["healthy"]))
    os.utime(file, (time.time() - 7200,) * 2)
    assert findings(file)["node1"][0] == "ok"
    assert findings("--max-age", "1", file)["node1"] == ("unknown", "no answer for 2.0 hours")


def test_the_last_of_two_answers_of_a_node_counts(answers):
    lines = [{"node": "n", "error": "timeout"}, {"node": "n", "status": answers["healthy"]}]
    assert findings("-", lines=lines) == {"n": ("ok", "")}


# ---- invalid answers ---------------------------------------------------------


def changed(**changes):
    def change(answer):
        answer.update(changes)
        return answer
    return change


def changed_gpu(**changes):
    def change(answer):
        answer["gpus"][0].update(changes)
        return answer
    return change


def without(name):
    def change(answer):
        del answer[name]
        return answer
    return change


@pytest.mark.parametrize("change, sentence", [
    (changed(schema="holdfast.status/2"),
     "its schema is 'holdfast.status/2', but this report reads holdfast.status/1: use the report of the node's Holdfast "
     "version"),
    (changed(schema=None), "its schema is 'None', but this report reads holdfast.status/1"),
    (without("gpus"), "'gpus' is missing in the answer"),
    (changed(gpus={}), "'gpus' in the answer is not a list of at most 256"),
    (changed(gpus=[{}] * 257), "'gpus' in the answer is not a list of at most 256"),
    (changed(gpus=["x"]), "the answer.gpus[0] is not an object"),
    (changed(daemon="holdfast"), "'daemon' in the answer is not an object"),
    (changed(driver={"loaded": 1, "version": None}), "'loaded' in the answer.driver is not true, false or null"),
    (changed_gpu(index="0"), "'index' in the answer.gpus[0] is not a count or null"),
    (changed_gpu(index=2**53), "'index' in the answer.gpus[0] is not a count or null"),
    (changed_gpu(index=10**400), "it is not JSON: 10000000000000000000... is too large"),
    (changed(daemon={"kind": None, "version": None, "backend": None, "pid": None, "started": None, "ready": None,
                     "error": None}), "the daemon is of an unknown kind"),
    (changed_gpu(index=True), "'index' in the answer.gpus[0] is not a count or null"),
    (changed_gpu(detail=[]), "'detail' in the answer.gpus[0] is not an object or null"),
    (changed_gpu(uuid=7), "'uuid' in the answer.gpus[0] is not a text or null"),
    (lambda answer: [], "the answer is not an object"),
    (lambda answer: None, "the answer is not an object"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_an_unusable_answer_affects_only_its_own_node(answers, healthy, change, sentence):
    found = findings("-", lines=[{"node": "bad", "status": change(healthy)}, {"node": "good", "error": "x"}])
    name = "line 1" if "not JSON" in sentence else "bad"
    assert found[name][0] == "unknown" and sentence in found[name][1]
    assert found["good"] == ("unknown", "x")


TEXTS = {
    "empty": ("", "its answer is empty"),
    "cut": ("{", "it is not JSON"),
    "a shell's error": ("holdfast: command not found", "it is not JSON"),
    "deep": ("[" * 100000, "it is not JSON"),
    "not a number": ('{"schema": NaN}', "it is not JSON: NaN is not a number"),
    "a large number": ('{"schema": 1e999}', "it is not JSON: 1e999 is too large"),
    "a number": ("7", "the answer is not an object"),
    "no UTF-8": ("\xff\xfe", "it is not JSON"),
    "long": (" " * 5_000_000 + "{}", "is larger than 4 MiB"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_file_that_is_not_an_answer_makes_its_node_unknown(tmp_path, what):
    text, words = TEXTS[what]
    (tmp_path / "node1.json").write_bytes(text.encode("latin-1"))
    verdict, found = findings(tmp_path)["node1"]
    assert verdict == "unknown" and words in found


def test_a_line_that_is_too_long_or_invalid_does_not_affect_the_others(answers):
    lines = ['{"node": "' + "x" * 5_000_000 + '"}', "nonsense", {"node": "n", "status": answers["healthy"]}]
    found = findings("-", lines=lines)
    assert "larger than 4 MiB" in found["line 1"][1] and "not JSON" in found["line 2"][1] and found["n"] == ("ok", "")


def test_a_new_state_is_unknown_and_not_an_error(healthy):
    healthy["gpus"][0]["state"] = "levitating"
    rows = table("-", lines=[{"node": "n", "status": healthy}])
    assert [row["state"] for row in rows][:2] == ["unknown", "held"]


def test_unprintable_characters_are_replaced(healthy):
    healthy["gpus"][0]["name"] = "a\x1b[31m\u202e\ud800" + "b" * 1000
    name = table("-", lines=[{"node": "n\n", "status": healthy}])[0]["name"]
    assert name.startswith("a\ufffd[31m\ufffd\ufffdb") and len(name) == 500


# ---- using it ----------------------------------------------------------------


@pytest.mark.parametrize("arguments, status, words", [
    ([], 2, "usage"),
    (["-"], 2, "nothing to write"),
    (["--csv", "-", "/nowhere"], 1, "cannot read /nowhere: No such file or directory"),
    (["--csv", "-", "/nowhere.jsonl"], 1, "cannot read /nowhere.jsonl: No such file or directory"),
    (["--html", "/nowhere/x.html", "-"], 1, "cannot write /nowhere/x.html: No such file or directory"),
    (["--html", "/", "-"], 1, "cannot write /: "),
    (["--csv", "-", "--nodes", "/nowhere", "-"], 1, "cannot read /nowhere: No such file or directory"),
])
def test_wrong_usage_is_reported_in_a_sentence(arguments, status, words):
    done = report(*arguments, lines=[{"node": "n", "error": "x"}])
    assert done.returncode == status and words in done.stderr and "Traceback" not in done.stderr


def test_no_answer_at_all_is_an_error(tmp_path):
    done = report("--csv", "-", tmp_path)
    assert done.returncode == 1 and "no answers found in" in done.stderr


def test_a_page_is_replaced_whole_and_readable_by_all(tmp_path):
    page = tmp_path / "fleet.html"
    page.write_text("old")
    before = page.stat().st_ino
    assert report("--html", page, "-", lines=[{"node": "n", "error": "x"}]).returncode == 0
    assert page.stat().st_ino != before and stat.S_IMODE(page.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["fleet.html"]


def test_a_closed_pipe_is_reported_in_a_sentence(answers):
    lines = "".join(json.dumps(line) + "\n" for line in fleets.grow(answers, 300))
    done = subprocess.run(["bash", "-c", '"$0" --csv - - | true; exit "${PIPESTATUS[0]}"', REPORT], input=lines, text=True,
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr == "holdfast-fleet-report: cannot write -: Broken pipe\n"


def test_the_output_is_utf8_even_if_the_terminal_is_ascii():
    done = subprocess.run([REPORT, "--csv", "-", "-"], input='{"node": "n\u00fc", "error": "x"}\n'.encode(),
                          env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0 and "n\u00fc".encode() in done.stdout


def test_it_runs_from_a_link(tmp_path):
    (tmp_path / "report").symlink_to(REPORT)
    done = subprocess.run([tmp_path / "report", "--help"], capture_output=True, text=True, timeout=30, check=False, cwd="/")
    assert done.returncode == 0 and "exit status" in done.stdout


# ---- the page, in a browser --------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium")
    if not program:
        pytest.skip("chromium is missing (scripts/setup fleet installs it)")
    if os.geteuid() != 0:
        pytest.skip("root is missing: the browser gets a network namespace of its own")
    browser = Browser(program)
    yield browser
    browser.close()


@pytest.fixture
def show(browser, tmp_path):
    """Opens the page of these lines. At the end the page must have reported no problem and requested nothing from outside."""
    pages = []

    def show(lines, fragment="", **how):
        file = tmp_path / "fleet.html"
        done = report("--html", file, "-", lines=lines)
        assert (done.returncode, done.stderr) == (0, "")
        pages.append(browser.new_page(**how).open(file, fragment))
        return pages[-1]

    yield show
    for page in pages:
        assert page.complaints() == [] and page.requests() == []


def states_of(lines):
    """Returns how many GPUs are in each state, and how many nodes did not answer."""
    states = Counter(gpu["state"] for line in lines if "status" in line for gpu in line["status"]["gpus"])
    silent = sum("error" in line for line in lines)
    return states | ({"no answer": silent} if silent else {})


def nodes_shown(page):
    """Returns the names, from titles: the browser computes no text of nodes outside the window."""
    return page.eval("[...document.querySelectorAll('.node:not([hidden])')].map((e) => e.title)")


@pytest.mark.parametrize("count", [3, 2000])
def test_the_page_counts_what_the_nodes_said(answers, show, count):
    lines = fleets.grow(answers, count)
    page = show(lines)
    states = states_of(lines)
    gpus = sum(states.values()) - states.get("no answer", 0)
    assert f"of {count:,} nodes need attention" in page.texts("#headline")[0]
    assert f"{states['held']:,} of {gpus:,} GPUs are held" in page.texts("#headline")[0]
    buttons = [text.split("\n")[-1] for text in page.texts("#filters button")]
    assert sorted(buttons) == sorted(f"{state} {n:,}" for state, n in states.items())
    assert page.eval("document.querySelectorAll('.node').length") == count
    letters = "".join(page.eval("[...document.querySelectorAll('.node .run')].map((e) => e.textContent)"))
    assert Counter(letters)["H"] == states["held"] and Counter(letters)["F"] == states["failed"] and len(letters) == gpus


def test_two_thousand_nodes_stay_a_small_page(answers, show):
    page = show(fleets.grow(answers, 2000))
    assert page.eval("document.querySelectorAll('*').length") < 10000


@pytest.mark.parametrize("count", [3, 2000])
def test_search_finds_nodes_by_every_text_about_them(answers, show, count):
    lines = fleets.grow(answers, count)
    page = show(lines)
    healthy = next(line for line in lines if "status" in line and line["status"]["held"] == 8)
    searches = {healthy["node"]: {healthy["node"]}, healthy["status"]["gpus"][5]["uuid"].upper(): {healthy["node"]},
                "connection timed": {line["node"] for line in lines if "error" in line}, "no such thing": set()}
    for text, nodes in searches.items():
        page.eval("document.activeElement.blur(); document.querySelector('#search').value = ''")
        page.press("/")
        page.type(text)
        assert set(nodes_shown(page)) == nodes, text
        assert page.texts("#shown") == [f"{len(nodes):,} of {count:,} nodes"]


def test_a_filter_shows_the_nodes_that_have_such_a_gpu(answers, show):
    lines = fleets.grow(answers, 300)
    page = show(lines)
    page.eval("[...document.querySelectorAll('#filters button')].find((e) => e.textContent.includes('excluded')).id = 'it'")
    page.click("#it")
    expected = {line["node"] for line in lines if "status" in line and line["status"]["gpus"][-1:] and
                line["status"]["gpus"][-1]["excluded"]}
    assert set(nodes_shown(page)) == expected and expected
    assert page.eval("document.querySelector('#it').getAttribute('aria-pressed')") == "true"
    page.click("#it")
    assert len(nodes_shown(page)) == 300


def test_problems_come_first_and_can_all_be_shown(answers, show):
    lines = [{"node": f"n{i}", "error": "down"} for i in range(30)] + [{"node": "well", "status": answers["healthy"]}]
    page = show(lines)
    assert len(page.texts("#trouble-rows tr")) == 20 and page.texts("#more-troubles") == ["Show all 30"]
    page.click("#more-troubles")
    assert len(page.texts("#trouble-rows tr")) == 30 and page.texts("#more-troubles") == []
    assert page.eval("document.querySelector('#troubles').getBoundingClientRect().top < "
                     "document.querySelector('#map').getBoundingClientRect().top")


def test_a_healthy_fleet_shows_no_problems(answers, show):
    page = show([{"node": "n1", "status": answers["healthy"]}])
    assert page.texts("#troubles") == [] and page.texts("#headline")[0].startswith("0 of 1 node need attention; 8 of 8 GPUs")


def test_the_keyboard_walks_the_map_and_opens_a_node(answers, show):
    lines = [{"node": f"n{i}", "status": answers["healthy"]} for i in range(1, 41)]
    page = show(lines)
    page.eval("document.querySelector('.node').focus()")
    columns = page.eval("getComputedStyle(document.querySelector('#map')).gridTemplateColumns.split(' ').length")
    where = {"ArrowRight": 2, "ArrowDown": 2 + columns, "ArrowLeft": 1 + columns, "ArrowUp": 1, "End": 40, "Home": 1}
    for key, number in where.items():
        page.press(key)
        assert page.eval("document.activeElement.title") == f"n{number}", key
    assert page.eval("document.querySelectorAll('.node[tabindex=\"0\"]').length") == 1
    page.press("Enter")
    assert page.texts("#details-title") == ["n1"]
    page.press("Escape")
    assert page.texts("#details") == [] and page.eval("document.activeElement.title") == "n1"


def test_details_show_everything_about_a_node_and_have_a_link(answers, show):
    lines = [{"node": "n1", "status": answers["troubled"]}, {"node": "n2", "error": "down"}]
    page = show(lines, "#n1")
    assert page.texts("#details-title") == ["n1"]
    details = page.texts("#details")[0]
    for gpu in answers["troubled"]["gpus"]:
        assert gpu["bus_id"] in details and gpu["uuid"] in details
    assert "cannot open /dev/nvidia1" in details and "kernel backend" in details and "595.45.04" in details
    assert page.eval("document.querySelectorAll('#details svg.spark').length") == \
        sum(gpu["detail"]["open_ms"] is not None for gpu in answers["troubled"]["gpus"])
    page.press("Escape")
    page.click(".node:last-child")
    assert page.texts("#details-title") == ["n2"] and page.eval("location.hash") == "#n2"


def test_open_times_are_plotted_by_model_and_a_simulation_says_so(answers, show):
    lines = fleets.grow(answers, 100)
    page = show(lines)
    times = {}
    for gpu in (gpu for line in lines if "status" in line for gpu in line["status"]["gpus"]):
        if gpu["detail"] and gpu["detail"]["open_ms"]:
            times.setdefault(gpu["name"], []).append(gpu["detail"]["open_ms"])
    captions = page.texts("figcaption")
    assert sorted(captions) == sorted(f"{model}, {len(opens):,} GPUs" for model, opens in times.items())
    assert page.eval("[...document.querySelectorAll('figure rect title')].reduce((n, e) => "
                     "n + Number(e.textContent.split(' ')[0]), 0)") == sum(map(len, times.values()))
    for figure, caption in zip(page.texts("figure"), captions):
        slowest = max(times[caption.split(",")[0]]) / 1000
        assert f"the slowest in {slowest:.2f} s" in figure and "not from real GPUs" in figure


def test_texts_of_nodes_are_shown_and_never_executed(healthy, show):
    evil = "</script><script>throw 1</script><img src=x onerror=throw(2)>&amp;<!--"
    healthy["gpus"][0]["name"] = healthy["daemon"]["version"] = evil
    healthy["gpus"][1].update(state="failed")
    healthy["gpus"][1]["detail"]["error"] = {"text": evil, "errno": 5, "nv_status": 0}
    page = show([{"node": evil, "status": healthy}, {"node": "{{script}}", "error": evil}])
    assert page.eval("document.querySelectorAll('img, script').length") == 2
    assert set(page.eval("[...document.querySelectorAll('.node b')].map((e) => e.textContent)")) == {evil, "{{script}}"}
    page.click(".node")
    assert page.texts("#details-title") == [evil] and evil in page.texts("#details .error")[0]


LUMINANCE = """(() => {
        const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const light = (css) => { const [r, g, b] = css.match(/[0-9.]+/g).map(Number);
                return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
        return [...document.querySelectorAll('#filters .key')].map((e) => { const s = getComputedStyle(e);
                return [e.textContent, e.className, light(s.backgroundColor), light(s.color)]; });
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_states_differ_by_letter_and_can_be_read_in_both_schemes(answers, show, scheme):
    page = show(fleets.grow(answers, 2000), scheme=scheme)
    keys = page.eval(LUMINANCE)
    assert len({letter for letter, *_ in keys}) == len(keys) >= 9
    for letter, _, ground, ink in keys:
        contrast = (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05)
        assert contrast >= 4.5, f"{letter}: {contrast:.1f}"
    by = {name: ground for _, name, ground, _ in keys}
    # For readers who do not distinguish colours: bad states differ from "held" in lightness.
    for bad in ("failed", "stuck", "not-initialised", "released"):
        pair = sorted((by[f"key {bad}"], by["key held"]))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) > 1.2, bad


def test_a_narrow_screen_shows_all_without_scrolling_sideways(answers, show):
    page = show(fleets.grow(answers, 30), width=390, height=800)
    assert page.eval("document.documentElement.scrollWidth <= innerWidth")
