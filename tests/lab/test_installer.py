# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""packaging/install on an image that then boots. tests/system/test_packaging.py tests the rest of it."""

import subprocess

from lab.lab import TOP

SERVICE = "nvidia-persistenced.service"
OURS = "find / -xdev ! -type d -path '*holdfast*'"


def run_installer(node, *options):
    """Runs the installer on this machine, with the node's file system as the image."""
    done = subprocess.run([TOP / "packaging/install", f"--build={node.lab.build}", f"--root={node.path('/')}", *options],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_image_boots_with_gpus_held_after_an_installation_and_as_before_after_a_removal(bare_node):
    node = bare_node.simulate()
    before = node.exec(OURS)
    run_installer(node)
    node.reboot()
    assert node.exec("systemctl", "is-active", SERVICE) == "active\n"
    assert node.gpus.users() == [1, 1]
    assert node.exec("systemctl", "is-system-running") == "running\n"

    run_installer(node, "--uninstall")
    node.reboot()
    assert node.try_exec("systemctl", "cat", SERVICE).status != 0
    assert node.gpus.users() == [0, 0]
    assert node.exec(OURS) == before
