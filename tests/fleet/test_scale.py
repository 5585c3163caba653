# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""docs/scale.md: its exact figures are correct, and its formula for Ansible computes what the page says."""

import re
import sys

import pytest
from conftest import TOP
from harness import events
from harness.command import holdfast

sys.path.append(str(TOP / "bench"))

from scale_ansible import Model, Sample, model_of  # noqa: E402 (found by the path above)

PAGE = (TOP / "docs/scale.md").read_text()
SCRAPES = PAGE.partition("<!-- scrape -->")[2].partition("<!-- end of scrape -->")[0]
SERIES = {int(gpus): int(series) for gpus, series in re.findall(r"^\| (\d+) \| (\d+) \|", SCRAPES, re.MULTILINE)}


@pytest.mark.parametrize("gpus", [1, 4])
def test_a_node_has_as_many_series_as_the_page_says(world, gpus):
    world.simulate(gpus)
    world.start()

    def lines():
        text = holdfast(world.site.root, "metrics").out
        return [line for line in text.splitlines() if not line.startswith("#")]

    # The daemon learns the legacy flag of a GPU last.
    events.wait_until(lambda: sum(line.startswith("holdfast_gpu_legacy_flag{") for line in lines()) == gpus, "every flag", 20)
    assert len(lines()) == SERIES[gpus]


def test_the_series_of_a_gpu_are_as_many_as_the_page_says():
    assert set(SERIES) > {1, 4, 8}
    each, = re.findall(r"Each GPU adds (\d+) series", PAGE)
    assert {(series - SERIES[1]) / (gpus - 1) for gpus, series in SERIES.items() if gpus > 1} == {int(each)}


def test_the_formula_takes_the_longer_time_of_the_forks_and_of_the_processors():
    model = Model(start_sec=2, each_sec=0.5, alone_sec=10)
    assert model.wall_sec(nodes=100, forks=10, processors=1000) == 2 + 10 * 10
    assert model.wall_sec(nodes=101, forks=10, processors=1000) == 2 + 11 * 10
    assert model.wall_sec(nodes=100, forks=1000, processors=2) == 2 + 100 * 0.5 / 2


def test_the_terms_for_a_playbook_come_from_the_samples_of_that_playbook():
    samples = [Sample("check", 2, 5.0, 3.0), Sample("check", 4, 7.0, 5.0), Sample("check", 8, 9.0, 9.0), Sample("enable", 2, 1, 1)]
    model = model_of(samples, "check")
    assert (model.start_sec, model.each_sec, model.alone_sec) == (pytest.approx(1), pytest.approx(1), pytest.approx(4))
