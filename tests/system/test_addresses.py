# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""scripts/addresses replaces the project's placeholder addresses, which packaging/addresses lists, with real ones."""

import shutil
import subprocess
import sys

import pytest

from conftest import TOP

pytestmark = pytest.mark.holdfast_only("it tests no daemon")

TABLE = "# PLACEHOLDERS\nmaintainer maintainers@holdfast.example\nrunbooks https://holdfast.example/runbooks\n"


@pytest.fixture
def tree(tmp_path):
    """A repository with the script, its table, and two files that contain the addresses."""
    for folder in ("scripts", "packaging"):
        (tmp_path / folder).mkdir()
    shutil.copy(TOP / "scripts/addresses", tmp_path / "scripts")
    (tmp_path / "packaging/addresses").write_text(TABLE)
    (tmp_path / "control").write_text("Maintainer: X <maintainers@holdfast.example>\n")
    (tmp_path / "links.py").write_text('"https://holdfast.example/runbooks/a.md", r"https://holdfast\\.example/runbooks/b"\n')
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    return tmp_path


def addresses(tree, *arguments):
    return subprocess.run([sys.executable, tree / "scripts/addresses", *arguments], capture_output=True, text=True, check=False,
                          timeout=30)


def test_addresses_are_replaced_in_every_file_that_has_them(tree):
    (tree / "packaging/addresses").write_text(TABLE.replace("maintainers@holdfast.example", "gpu@site.test")
                                              .replace("https://holdfast.example/runbooks", "https://wiki.test/gpu"))
    done = addresses(tree)
    assert done.returncode == 0 and sorted(done.stdout.split()) == ["control", "links.py"]
    assert (tree / "control").read_text() == "Maintainer: X <gpu@site.test>\n"
    assert (tree / "links.py").read_text() == '"https://wiki.test/gpu/a.md", r"https://wiki\\.test/gpu/b"\n'


def test_an_address_that_is_not_in_the_table_is_reported(tree):
    assert addresses(tree, "--check").returncode == 0
    (tree / "page.md").write_text("\nWrite to sales@holdfast.example.\n")
    done = addresses(tree, "--check")
    assert done.returncode == 1 and done.stdout == "page.md:2: sales@holdfast.example is not in packaging/addresses\n"


def test_an_address_that_was_removed_from_the_table_is_reported_and_no_file_changes(tree):
    (tree / "packaging/addresses").write_text("runbooks https://wiki.test/gpu\n")
    done = addresses(tree)
    assert done.returncode != 0 and "maintainer" in done.stderr
    assert "holdfast.example" in (tree / "links.py").read_text()
