# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The shells' completion of holdfast: that it has every command and option, and that bash completes with it."""

import re
import subprocess

import pytest

from harness.command import PROGRAM, environment, holdfast
from harness.node import THREE

SHELLS = ("bash", "fish", "zsh")


def commands():
    text = holdfast(None, "--help").out.split("Commands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  ([a-z]+) ", text, re.M)


def options(*command):
    text = holdfast(None, *command, "--help").out.split("Options:\n")[1].split("\n\n")[0]
    return re.findall(r"^  (?:-\w, )?--([a-z-]+)", text, re.M)


def part_of(shell, text, command):
    """The lines about one command."""
    if shell == "zsh":
        return text.split(f"\n        ({command})\n")[1].split(";;")[0]
    mark = f"__fish_seen_subcommand_from {command}'" if shell == "fish" else f" {command}/"
    lines = [line for line in text.splitlines() if mark in line or line.startswith("complete -c holdfast -l ")]
    return "\n".join(lines)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_completed(shell):
    text = holdfast(None, "completion", shell).out
    assert len(commands()) >= 9
    for command in commands():
        part = part_of(shell, text, command)
        for option in options(command):
            assert re.search(rf"(--|-l ){option}\b", part), f"{shell}: {command} --{option} is not completed"


def test_the_build_made_the_files_that_are_installed():
    for shell, name in (("bash", "holdfast.bash"), ("fish", "holdfast.fish"), ("zsh", "_holdfast")):
        assert (PROGRAM.parent / name).read_text() == holdfast(None, "completion", shell).out


def complete(root, *words):
    """What bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    script = (f'. "$1"; COMP_WORDS=(holdfast {line}); COMP_CWORD={len(words)}; compopt() {{ :; }}; _holdfast; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-euc", script, "bash", PROGRAM.parent / "holdfast.bash"], capture_output=True, text=True,
                          env=environment(PATH=f"{PROGRAM.parent}:/usr/bin:/bin", HOLDFAST_ROOT=str(root)), timeout=30,
                          check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_words_and_gpus(three):
    assert complete(three.root, "st") == ["status"]
    assert "completion" not in complete(three.root, "")
    assert complete(three.root, "set", "o") == ["on", "off"]
    assert complete(three.root, "--root", "/", "check", "--min") == ["--min-gpus"]
    assert complete(three.root, "check", "--expect", "") == ["on", "off", "any"]
    assert complete(three.root, "check", "--format", "n") == ["nagios", "nhc", "npd"]
    assert complete(three.root, "status", "--gpu", "") == [
        "all", *(word for minor in range(len(THREE))
                 for word in (str(minor), f"GPU-{minor:08x}-0000-0000-0000-000000000000"))]
    assert complete(three.root, "metrics", "--textfile", f"{three.root}/pro") == [f"{three.root}/proc"]


def test_an_unknown_shell_is_wrong_usage():
    for words in ([], ["tcsh"], ["bash", "zsh"]):
        result = holdfast(None, "completion", *words)
        assert result.status == 2 and "bash, fish or zsh" in result.err
