# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""scripts/check-layers finds each violation of the rooms' rules, in a copy of the sources."""

import shutil
import subprocess

import pytest

from conftest import TOP

pytestmark = pytest.mark.holdfast_only("it tests no daemon")


@pytest.fixture
def copy(tmp_path):
    for folder in ("src", "sim"):
        shutil.copytree(TOP / folder, tmp_path / folder,
                        ignore=lambda _, names: [name for name in names if "." in name and name[-2:] not in (".c", ".h")])
    return tmp_path


def check(top):
    done = subprocess.run([TOP / "scripts/check-layers", top], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def add_include(top, path, include):
    with open(top / path, "a", encoding="utf-8") as file:
        file.write(f'#include "{include}"\n')


def test_the_sources_follow_every_rule(copy):
    assert check(copy) == (0, [])


@pytest.mark.parametrize(("path", "include", "fault"), [
    ("src/base/text.c", "rpc/xdr.h", "base may not include rpc/xdr.h"),
    ("src/cli/commands/set.c", "gpu/rm.h", "cli/commands may not include gpu/rm.h"),
    ("src/cli/commands/set.c", "cli/doctor/doctor.h", "cli/commands may not include cli/doctor/doctor.h"),
    ("src/daemon/serve/server.c", "daemon/gpus/worker.h", "daemon/serve may not include daemon/gpus/worker.h"),
    ("src/cli/node/snapshot.c", "client/connection.h", "client/connection.h is for client only"),
    ("src/daemon/daemon_steps.c", "daemon/gpus/registry_private.h", "daemon/gpus/registry_private.h is for daemon/gpus only"),
    ("src/daemon/gpus/worker.c", "daemon/gpus/registry_private.h", "daemon/gpus/registry_private.h is only for daemon/gpus/registry*"),
    ("sim/fronts/fuse.c", "sim/model/private.h", "sim/model/private.h is for sim/model only"),
])
def test_an_include_that_no_rule_allows_is_found(copy, path, include, fault):
    add_include(copy, path, include)
    status, faults = check(copy)
    line = (copy / path).read_text().count("\n")
    assert status == 1 and len(faults) == 1 and faults[0].startswith(f"{path}:{line}: {fault}")


def test_headers_that_include_each_other_are_found(copy):
    add_include(copy, "src/base/text.h", "base/nearest.h")
    add_include(copy, "src/base/nearest.h", "base/fd.h")
    add_include(copy, "src/base/fd.h", "base/text.h")
    assert check(copy) == (1, ["headers include each other in a circle: "
                               "base/fd.h -> base/text.h -> base/nearest.h -> base/fd.h"])


def test_a_source_file_whose_own_header_is_not_first_is_found(copy):
    source = copy / "src/base/text.c"
    source.write_text('#include "base/cleanup.h"\n' + source.read_text())
    assert check(copy) == (1, ["src/base/text.c: base/text.h is not its first include"])


def test_a_folder_without_a_row_is_found(copy):
    (copy / "src/misc").mkdir()
    (copy / "src/misc/misc.c").write_text("")
    assert check(copy) == (1, ["src/misc/misc.c: the folder misc has no row in scripts/check-layers; add one"])


def test_a_permission_that_nothing_uses_is_found(copy):
    (copy / "sim/nvidia-cfg/shim.c").unlink()
    status, faults = check(copy)
    assert status == 1
    assert "scripts/check-layers: sim/nvidia-cfg may include gpu/abi.h, and does not: remove it from the row" in faults


def test_an_offered_header_that_no_other_room_includes_is_found(copy):
    main = copy / "sim/main.c"
    main.write_text(main.read_text().replace('#include "sim/tree/kernel_log.h"', ""))
    status, faults = check(copy)
    assert status == 1
    assert "scripts/check-layers: sim/tree offers kernel_log.h, which no other room includes: remove it from the row" in faults
