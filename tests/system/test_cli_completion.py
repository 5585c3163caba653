# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Shell completion for holdfast: it has every command and option, and the real shells complete with it."""

import re
import shutil
import subprocess

import pytest

from harness.command import PROGRAM, commands, environment, holdfast
from harness.node import THREE
from harness.tmux import screen

SHELLS = {"bash": "holdfast.bash", "fish": "holdfast.fish", "zsh": "_holdfast"}  # shell: the file that the build makes


def options(*command):
    text = holdfast(None, *command, "--help").out.split("Options:\n")[1].split("\n\n")[0]
    return re.findall(r"^  (?:-\w, )?--([a-z-]+)", text, re.M)


def part_of(shell, text, command):
    """The lines of the completion file that concern one command."""
    if shell == "zsh":
        return text.split(f"\n        ({command})\n")[1].split(";;")[0]
    mark = f"__fish_seen_subcommand_from {command}'" if shell == "fish" else f" {command}/"
    lines = [line for line in text.splitlines() if mark in line or line.startswith("complete -c holdfast -l ")]
    return "\n".join(lines)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_completed(shell):
    text = (PROGRAM.parent / SHELLS[shell]).read_text()
    assert len(commands()) >= 9
    for command in commands():
        part = part_of(shell, text, command)
        for option in options(command):
            assert re.search(rf"(--|-l ){option}\b", part), f"{shell}: {command} --{option} is not completed"


def complete(root, *words):
    """Returns bash's completions of the last word."""
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
    assert complete(three.root, "check", "--expect", "") == ["configured", "on", "off", "any", "daemon"]
    assert complete(three.root, "check", "--format", "n") == ["nagios", "nhc", "npd"]
    assert complete(three.root, "status", "--gpu", "") == [
        "all", *(word for minor in range(len(THREE))
                 for word in (str(minor), f"GPU-{minor:08x}-0000-0000-0000-000000000000"))]
    assert complete(three.root, "metrics", "--textfile", f"{three.root}/pro") == [f"{three.root}/proc"]


# ---- in real shells on a terminal ---------------------------------------------------

FILES = PROGRAM.parent

RC = {
    "bash": f"PS1='> '\n. {FILES}/holdfast.bash\n",
    "fish": f"function fish_prompt; echo '> '; end\nset -g fish_greeting\nsource {FILES}/holdfast.fish\n",
    "zsh": f"PS1='> '\nfpath=({FILES} $fpath)\nautoload -Uz compinit\ncompinit -u -D\n",
}


@pytest.fixture
def shell(request, three, tmp_path):
    """An interactive shell with our completion, without the user's settings."""
    name = request.param
    for tool in (name, "tmux"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is missing")
    (tmp_path / ".zshrc").write_text(RC[name])
    words = {"bash": ["bash", "--noprofile", "--rcfile", tmp_path / ".zshrc", "-i"],
             "fish": ["fish", "--no-config", "--init-command", RC[name]],
             "zsh": ["zsh", "-i"]}[name]
    with screen(80) as terminal:
        terminal.open(words, environment(HOME=tmp_path, ZDOTDIR=tmp_path, TERM="xterm-256color", LC_ALL="C.UTF-8",
                                         PATH=f"{FILES}:/usr/bin:/bin", HOLDFAST_ROOT=three.root))
        terminal.wait_for("^>")
        yield terminal


@pytest.mark.parametrize("shell", SHELLS, indirect=True)
def test_a_real_shell_completes_what_is_typed(shell):
    for typed, completed in (("holdfast stat", "holdfast status"), ("holdfast set of", "holdfast set off"),
                             ("holdfast doctor --verb", "holdfast doctor --verbose"),
                             ("holdfast check --expect an", "holdfast check --expect any"),
                             ("holdfast status --gpu al", "holdfast status --gpu all")):
        shell.type(typed)
        shell.press("Tab")
        shell.wait_for(f"^> {completed}$")
        shell.press("C-u")
        shell.wait_for("^>$")


@pytest.mark.parametrize("shell", SHELLS, indirect=True)
def test_a_real_shell_lists_the_commands(shell):
    shell.type("holdfast ")
    shell.press("Tab")
    shell.press("Tab")
    for command in ("status", "release", "doctor"):
        shell.wait_for(rf"\b{command}\b")
    assert not any("completion" in line for line in shell.lines())
