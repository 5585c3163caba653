# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Nodes with a real systemd, simulated GPUs at the real paths, and a network of their own."""
