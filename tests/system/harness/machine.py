# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A mount namespace for a daemon in the background, whose messages can be read only from syslog.

Its /dev has a syslog socket of the test. For a daemon without --root it also has the simulated driver's files at their real
paths, and its own /run. NVIDIA's daemon needs these files: it opens GPUs through its library (the shim), but reads
/proc/driver/nvidia and /dev/nvidiaN itself for NUMA memory, and holds no GPU if they are missing. So tests disturb neither
each other nor a daemon of the machine.
"""

from . import events

# <facility * 8 + level>, as openlog(3) with LOG_DAEMON makes it.
DAEMON_NOTICE = 3 * 8 + 5

# $1: the syslog socket. $2: an empty directory that becomes /dev. The rest is the command.
DEV = """
set -e
log=$1 dev=$2
shift 2
mount -t tmpfs tmpfs "$dev"
for node in /dev/null /dev/zero /dev/urandom; do
    : >"$dev/${node##*/}"
    mount --bind "$node" "$dev/${node##*/}"
done
: >"$dev/log"
mount --bind "$log" "$dev/log"
"""

# $1: the simulator's root. $2: a directory that becomes /run. The rest is the command.
DRIVER = """
root=$1 run=$2
shift 2
for node in "$root"/dev/nvidia*; do
    : >"$dev/${node##*/}"
    mount --bind "$node" "$dev/${node##*/}"
done
mount -t tmpfs tmpfs /proc/driver
mkdir /proc/driver/nvidia
mount --bind "$root/proc/driver/nvidia" /proc/driver/nvidia
mount --bind "$run" /run
"""

EXEC = """
mount --rbind "$dev" /dev
exec "$@"
"""


class Machine:
    """log: the lines of its syslog. run: its /run, as a path outside. prefix: put this before a command to run it inside."""

    def __init__(self, base, *, with_driver):
        dev, self.run = base / "machine.dev", base / "machine.run"
        for directory in (dev, self.run):
            directory.mkdir()
            directory.chmod(0o755)
        socket = base / "machine.log"
        self.log = events.Datagrams("syslog", socket)
        arguments = [str(socket), str(dev)] + ([str(base / "root"), str(self.run)] if with_driver else [])
        script = DEV + (DRIVER if with_driver else "") + EXEC
        self.prefix = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh", *arguments]

    def close(self):
        self.log.close()
