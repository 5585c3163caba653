# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The trial of Holdfast on a machine that has a GPU: docs/hardware.md. Standard library only."""
