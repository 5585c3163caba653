# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A virtual machine: what needs a kernel of its own (character devices, modules, AppArmor, limits)."""
