#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""NVIDIA's own programs (tests/stock/programs.py) for scripts. Prints a notice before it fetches them."""

import contextlib
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path += [str(TOP / "tests/lab"), str(TOP / "tests/stock")]

import programs  # noqa: E402 (found by the path above)
from lab import archive  # noqa: E402

BRANCH = "550"
NOTICE = """\
This runs NVIDIA's closed programs, which are under NVIDIA's licence: they are fetched from the non-free component of
Debian's archive into a cache, unpacked there, and not installed."""


@contextlib.contextmanager
def fetched():
    """Yields programs.Programs for the block. Exits with an error message if the archive does not have them."""
    print(NOTICE, flush=True)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(programs.used(BRANCH))
        except archive.Unavailable as error:
            sys.exit(str(error))
        yield programs.Programs(BRANCH, folder)


if __name__ == "__main__":
    print(NOTICE)
