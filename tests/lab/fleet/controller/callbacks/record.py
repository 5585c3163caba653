# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""An Ansible callback that writes a line of JSON for each result into the file named by HOLDFAST_TEST_RECORD."""

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
type: notification
short_description: Writes results into a file
description: For tests, which compare them.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def _record(self, outcome, result):
        line = {"host": result._host.get_name(), "task": result._task.get_name(), "outcome": outcome,
                "changed": result._result.get("changed", False), "message": str(result._result.get("msg", ""))}
        with open(os.environ["HOLDFAST_TEST_RECORD"], "a", encoding="utf-8") as record:
            record.write(json.dumps(line) + "\n")

    def v2_runner_on_ok(self, result):
        self._record("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._record("failed", result)

    def v2_runner_on_skipped(self, result):
        self._record("skipped", result)

    def v2_runner_on_unreachable(self, result):
        self._record("unreachable", result)
