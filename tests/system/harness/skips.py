# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""With CI=true a skipped test fails, since nobody would notice a test that no longer runs.

A conftest.py enables this by calling skips.forbid(config) in pytest_configure().
"""

import os
import sys

import pytest

from .daemon import other_daemon


def forbid(config):
    if not config.pluginmanager.has_plugin(__name__):
        config.pluginmanager.register(sys.modules[__name__], __name__)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") == "true" and not other_daemon() and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"CI=true: nothing may be skipped. {reason}"
