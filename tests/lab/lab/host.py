# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What tests can do on any machine of the lab: commands, files, an installation."""

import json
import subprocess
from pathlib import Path


class Result:
    """The result of a command on the machine."""

    def __init__(self, command, completed):
        self.command = command
        self.status = completed.returncode
        self.out = completed.stdout
        self.err = completed.stderr

    def __str__(self):
        return f"{self.command!r}: exit status {self.status}\n{self.out}{self.err}"

    def json(self):
        return json.loads(self.out)


class Host:
    """The base class. Derived classes define command(), name, lab and release."""

    def command(self, *words, environment=None):
        """Returns the command line with which this machine runs the words there as root."""
        raise NotImplementedError

    def try_exec(self, *words, input=None, timeout=60, environment=None):
        """Runs a command there that may fail. A single word with blanks is a shell line."""
        if len(words) == 1 and " " in words[0]:
            words = ("sh", "-c", words[0])
        done = subprocess.run(self.command(*words, environment=environment), input=input or "", capture_output=True,
                              text=True, timeout=timeout, check=False)
        return Result(" ".join(map(str, words)), done)

    def exec(self, *words, **how):
        """Runs a command there, which must succeed; returns its standard output."""
        result = self.try_exec(*words, **how)
        assert result.status == 0, f"{self.name}: {result}"
        return result.out

    def journal(self, *options, unit=None):
        """Returns the journal's messages, one on each line, of all boots unless the options include "--boot"."""
        which = [f"--unit={unit}"] if unit else []
        self.exec("journalctl", "--sync")
        return self.exec("journalctl", "--no-pager", "--quiet", "--output=cat", *which, *options)

    # ---- files

    def put(self, source, target):
        """Copies a file or a folder of this machine to that path, with its modes."""
        folder = Path(target).parent
        pack = subprocess.run(["tar", "--create", "--directory", Path(source).parent, "--owner=0", "--group=0",
                               f"--transform=s,^{Path(source).name},{Path(target).name},", Path(source).name],
                              capture_output=True, check=True)
        self._unpack(pack.stdout, folder)

    def put_tree(self, source):
        """Copies a folder's content into the root, such as an installation with DESTDIR."""
        pack = subprocess.run(["tar", "--create", "--directory", source, "--owner=0", "--group=0", "."],
                              capture_output=True, check=True)
        self._unpack(pack.stdout, "/")

    def _unpack(self, archive, folder):
        # --no-overwrite-dir: the archive must not change the mode of the root folder.
        command = self.command("sh", "-c", 'mkdir -p "$0" && tar --extract --no-overwrite-dir --directory "$0"', folder)
        done = subprocess.run(command, input=archive, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, f"{self.name}: cannot unpack in {folder}: {done.stderr.decode()}"

    def write(self, path, text, mode=0o644):
        """Writes a file and makes its folders."""
        self.exec("sh", "-c", f'mkdir -p "$(dirname "$0")" && cat >"$0" && chmod {mode:o} "$0"', path, input=text)

    def read(self, path):
        return self.exec("cat", path)

    # ---- installation

    def install(self):
        """Installs the release build as `make install prefix=/usr DESTDIR=...` does: files and user, without packages."""
        self.put_tree(self.release.installation)
        self.exec("systemctl", "daemon-reload")
        self.exec("systemd-sysusers")
        return self
