# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A virtual machine of the lab: what needs a kernel of its own (character devices, modules, AppArmor, cgroup limits)."""
