# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What the system tests stand on: an RPC client of their own, the simulated driver, the daemon under test."""
