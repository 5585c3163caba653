# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The pictures in docs/pictures show what the programs print, and scripts/pictures draws them correctly."""

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
def test_a_picture_shows_what_the_command_prints(name):
    if missing_for("kernel"):
        pytest.skip(missing_for("kernel"))
    done = pictures("--check", name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_picture_is_named():
    done = pictures("portrait")
    assert done.returncode == 2 and "no such picture: portrait" in done.stderr


# ---- how a terminal is drawn -------------------------------------------------


def shown(*output, columns=20):
    terminal = picture.Terminal(columns)
    for text in output:
        terminal.feed(text)
    return terminal.lines()


def test_colours_become_styles_and_end_where_they_are_reset():
    assert shown("a \033[32mheld\033[0m b") == [[("a ", ""), ("held", "good"), (" b", "")]]


def test_overwritten_lines_show_the_last_text():
    assert shown("one\r\ntwo\r\n", "\033[2A\033[Kx\r\n\033[J") == [[("x", "")]]


def test_a_line_continues_below_at_the_edge_of_the_terminal():
    assert shown("abcdef", columns=4) == [[("abcd", "")], [("ef", "")]]


def test_an_unknown_sequence_is_an_error_and_not_text():
    with pytest.raises(AssertionError, match="unknown"):
        shown("\033]0;title\007")


def test_a_picture_has_colours_for_light_and_dark_pages_and_escapes_xml():
    svg = picture.terminal([shown("a < b & c")], "title")
    assert "prefers-color-scheme:dark" in svg and "a &lt; b &amp; c" in svg


def test_a_still_picture_of_several_frames_shows_the_last():
    svg = picture.terminal([shown("first"), shown("second")], "title")
    assert 'class="f n0"' in svg and 'class="f n1 last"' in svg and ".f{visibility:hidden}.last{visibility:visible}" in svg
