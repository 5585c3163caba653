# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A syslog of the test's own: what a daemon in the background says can be read nowhere else."""

from pathlib import Path

from . import events

DEV_LOG = Path("/dev/log")

# <facility * 8 + level>, as openlog(3) with LOG_DAEMON makes it.
DAEMON_NOTICE = 3 * 8 + 5


class Syslog:
    """Receives what the commands that are started with `prefix` send to /dev/log.

    Where the machine has a syslog, only they see ours in its place (a mount namespace); elsewhere ours is /dev/log.
    """

    def __init__(self, base):
        self._owns_dev_log = not DEV_LOG.exists()
        path = DEV_LOG if self._owns_dev_log else base / "log.socket"
        if self._owns_dev_log:
            DEV_LOG.unlink(missing_ok=True)
        self.lines = events.Datagrams("syslog", path)
        self.prefix = [] if self._owns_dev_log else [
            "unshare", "--mount", "--propagation", "slave", "sh", "-c",
            'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh", str(path), str(DEV_LOG.resolve()),
        ]

    def close(self):
        self.lines.close()
        if self._owns_dev_log:
            DEV_LOG.unlink(missing_ok=True)
