# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Under CI=true a skipped test is a failure: a check that quietly stopped running is worse than none.

A conftest.py takes part by skips.forbid(config) in its pytest_configure().
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
