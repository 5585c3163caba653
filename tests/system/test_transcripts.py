# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The pages in docs/transcripts show what the programs print: scripts/transcripts runs each page's commands again."""

import os
import subprocess
import sys

import pytest

from conftest import BUILD, TOP
from harness.process import SANITIZER_ENVIRONMENT
from harness.world import missing_for

PAGES = sorted(page for page in (TOP / "docs/transcripts").glob("*.md") if page.stem != "README")

pytestmark = pytest.mark.holdfast_only("the pages show Holdfast's daemon")


def transcripts(*arguments):
    return subprocess.run([sys.executable, "-B", TOP / "scripts/transcripts", *arguments], capture_output=True, text=True,
                          env=os.environ | SANITIZER_ENVIRONMENT | {"HOLDFAST_BUILD": str(BUILD)}, timeout=120,
                          check=False)


@pytest.fixture(autouse=True)
def mountable():
    if missing_for("kernel"):
        pytest.skip(missing_for("kernel"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_the_commands_print(page):
    done = transcripts("--check", page)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_that_shows_something_else_is_found_and_can_be_renewed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- node: bare -->\n```console\n$ holdfast set\nit is done\n```\n")
    done = transcripts("--check", page)
    assert done.returncode == 1
    assert "-it is done" in done.stdout and "+holdfast set: on or off is missing" in done.stdout
    assert transcripts(page).returncode == 0 and "on or off is missing" in page.read_text()
    assert transcripts("--check", page).returncode == 0
