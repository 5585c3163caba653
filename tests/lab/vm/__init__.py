# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A virtual machine, for tests that need a separate kernel (character devices, modules, AppArmor, limits)."""
