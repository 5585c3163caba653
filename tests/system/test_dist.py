# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""scripts/dist and scripts/sbom make the files of a release. tests/lab tests the packages."""

import hashlib
import json
import os
import re
import subprocess
import tarfile

import pytest

from conftest import BUILD, TOP

pytestmark = pytest.mark.holdfast_only("it tests no daemon")

GIT = ("-c", "user.name=x", "-c", "user.email=x@x")
VERSION = re.search(r"^  version: '(.*)',$", (TOP / "meson.build").read_text(), re.MULTILINE)[1]


@pytest.fixture
def clone(tmp_path):
    """A clean repository with the project's current files."""
    subprocess.run([TOP / "scripts/export", tmp_path], check=True, stdout=subprocess.DEVNULL)
    tree = tmp_path / f"holdfast-{VERSION}"
    git(tree, "init", "-q")
    commit(tree)
    return tree


def git(tree, *arguments):
    return subprocess.run(["git", *GIT, "-C", tree, *arguments], check=True, capture_output=True, text=True).stdout


def commit(tree):
    git(tree, "add", "--all")
    git(tree, "commit", "-q", "-m", "x", "--date=2026-01-01T00:00:00Z")


def dist(tree, *parts, **environment):
    return subprocess.run([tree / "scripts/dist", *parts], capture_output=True, text=True, timeout=120, check=False,
                          env={key: value for key, value in os.environ.items() if key != "TAG"} | {
                              "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@x"} | environment)


def refused(done):
    assert done.returncode == 1 and not done.stdout
    return done.stderr


def set_changelog(tree, text):
    (tree / "CHANGELOG.md").write_text(text)
    commit(tree)


def test_the_source_archive_has_every_file_of_the_commit_and_each_artifact_has_a_checksum(clone):
    done = dist(clone, "source")
    assert done.returncode == 0, done.stderr
    release = clone / "dist/release"
    assert (release / "RELEASE-NOTES.md").read_text().startswith(f"# Holdfast {VERSION}, snapshot of commit ")
    with tarfile.open(release / f"holdfast-{VERSION}.tar.gz") as archive:
        names = {member.name.removeprefix(f"holdfast-{VERSION}/") for member in archive if not member.isdir()}
    assert names == set(git(clone, "ls-files").splitlines()) and "meson.build" in names
    sums = dict(reversed(line.split()) for line in (release / "SHA256SUMS").read_text().splitlines())
    made = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in release.iterdir() if path.name != "SHA256SUMS"}
    assert sums == made and set(made) == {f"holdfast-{VERSION}.tar.gz", "RELEASE-NOTES.md"}
    assert all(name in done.stdout for name in made) and "not tagged" in done.stdout


def test_packages_can_be_made_from_the_source_archive(clone, tmp_path):
    assert dist(clone, "source").returncode == 0
    unpacked, exported = tmp_path / "unpacked", tmp_path / "exported"
    with tarfile.open(clone / f"dist/release/holdfast-{VERSION}.tar.gz") as archive:
        archive.extractall(unpacked)
    tree = unpacked / f"holdfast-{VERSION}"
    (tree / "build-release").mkdir()
    (tree / "build-release/leftover").touch()
    done = subprocess.run([tree / "scripts/export", exported], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [VERSION, git(clone, "log", "-1", "--format=%ct").strip(), "source-archive"]
    files = {str(path.relative_to(exported / f"holdfast-{VERSION}")) for path in exported.rglob("*") if path.is_file()}
    assert files == set(git(clone, "ls-files").splitlines())


def test_the_same_commit_gives_the_same_archive(clone):
    archive = clone / f"dist/release/holdfast-{VERSION}.tar.gz"
    assert dist(clone, "source").returncode == 0
    before = archive.read_bytes()
    assert dist(clone, "source").returncode == 0 and archive.read_bytes() == before


def test_a_release_has_its_section_of_the_changelog_and_a_tag(clone):
    set_changelog(clone, f"# Changelog\n\n## {VERSION} - 2026-01-01\n\n- news\n\n## 0.0.1\n\n- old\n")
    done = dist(clone, "source", TAG="yes")
    assert done.returncode == 0 and f"tagged v{VERSION}" in done.stdout, done.stderr
    notes = (clone / "dist/release/RELEASE-NOTES.md").read_text()
    assert notes.startswith(f"# Holdfast {VERSION}\n") and "- news" in notes and "- old" not in notes
    assert git(clone, "rev-parse", f"v{VERSION}^{{commit}}") == git(clone, "rev-parse", "HEAD")
    assert dist(clone, "source", TAG="yes").returncode == 0  # an existing tag of this commit does not prevent a second run


def test_dist_refuses_what_is_not_a_release(clone):
    set_changelog(clone, "# Changelog\n\n## 0.0.1\n\n- old\n")
    assert f'no section "## {VERSION}"' in refused(dist(clone, "source"))
    set_changelog(clone, f"# Changelog\n\n## Unreleased\n\n- new\n\n## {VERSION}\n\n- news\n")
    assert '"Unreleased"' in refused(dist(clone, "source", TAG="yes"))
    git(clone, "tag", f"v{VERSION}", "HEAD~1")
    assert "increase the version" in refused(dist(clone, "source"))
    (clone / "new").touch()
    assert "uncommitted" in refused(dist(clone, "source"))
    assert 'unknown part "iso"' in refused(dist(clone, "iso"))
    assert not (clone / "dist").exists()


def test_the_changelog_has_a_section_for_the_current_version():
    """Until the version is released, the section is "Unreleased", above the previous version."""
    headings = re.findall(r"^## (\S+)", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in (VERSION, "Unreleased")
    assert headings[0] == VERSION or VERSION not in headings


def test_the_sbom_names_each_program_and_the_packages_of_its_libraries():
    done = subprocess.run([TOP / "scripts/sbom", BUILD, "c0ffee"], capture_output=True, text=True, check=True, timeout=60,
                          env=os.environ | {"SOURCE_DATE_EPOCH": "1767225600"})
    sbom = json.loads(done.stdout)
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.5")
    assert sbom["metadata"]["timestamp"] == "2026-01-01T00:00:00Z"
    components = {component["bom-ref"]: component for component in sbom["components"]}
    assert components["nvidia-persistenced"]["version"] == VERSION
    links = {entry["ref"]: entry["dependsOn"] for entry in sbom["dependencies"]}
    assert links["product"] == ["nvidia-persistenced", "holdfast", "holdfast-sim"]
    event = next(name for name in links["nvidia-persistenced"] if name.startswith("libevent_core"))
    assert re.fullmatch(r"pkg:(deb|rpm)/\w+/libevent[^@+]*@[^@+]+", components[event]["purl"])
    assert {name for names in links.values() for name in names} <= components.keys()
