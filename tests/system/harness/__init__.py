# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What the system tests share: an independent RPC client, the simulated driver, the daemon under test."""
