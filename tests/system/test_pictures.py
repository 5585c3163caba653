# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""docs/pictures shows what the programs print: scripts/pictures runs the commands again."""

import os
import subprocess
import sys

import pytest

from conftest import BUILD, TOP
from harness.process import SANITIZER_ENVIRONMENT
from harness.world import missing_for

sys.path.insert(0, str(TOP / "scripts"))

import picture  # noqa: E402

pytestmark = pytest.mark.holdfast_only("the pictures show Holdfast's daemon")


def pictures(*arguments):
    return subprocess.run([sys.executable, "-B", TOP / "scripts/pictures", *arguments], capture_output=True, text=True,
                          env=os.environ | SANITIZER_ENVIRONMENT | {"HOLDFAST_BUILD": str(BUILD)}, timeout=120,
                          check=False)


@pytest.mark.parametrize("name", ["status", "doctor", "release"])
def test_a_picture_shows_what_is_printed(name):
    if missing_for("kernel"):
        pytest.skip(missing_for("kernel"))
    done = pictures("--check", name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_picture_is_named():
    done = pictures("portrait")
    assert done.returncode == 2 and "no such picture: portrait" in done.stderr


# ---- the terminal that is drawn ----------------------------------------------


def shown(*output, columns=20):
    terminal = picture.Terminal(columns)
    for text in output:
        terminal.feed(text)
    return terminal.lines()


def test_colours_become_styles_and_end_where_they_are_reset():
    assert shown("a \033[32mheld\033[0m b") == [[("a ", ""), ("held", "good"), (" b", "")]]


def test_a_screen_that_is_written_over_shows_the_last_text():
    assert shown("one\r\ntwo\r\n", "\033[2A\033[Kx\r\n\033[J") == [[("x", "")]]


def test_a_line_goes_on_below_where_the_terminal_ends():
    assert shown("abcdef", columns=4) == [[("abcd", "")], [("ef", "")]]


def test_an_unknown_sequence_is_an_error_and_not_text():
    with pytest.raises(AssertionError, match="unknown"):
        shown("\033]0;title\007")


def test_a_picture_has_colours_for_light_and_dark_pages_and_quotes_what_xml_reads():
    svg = picture.terminal([shown("a < b & c")], "title")
    assert "prefers-color-scheme:dark" in svg and "a &lt; b &amp; c" in svg


def test_of_several_frames_the_last_is_what_a_still_picture_shows():
    svg = picture.terminal([shown("first"), shown("second")], "title")
    assert 'class="f n0"' in svg and 'class="f n1 last"' in svg and ".f{visibility:hidden}.last{visibility:visible}" in svg
