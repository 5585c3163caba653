# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The trial of Holdfast on a machine with a GPU: docs/hardware.md. Standard library only."""
