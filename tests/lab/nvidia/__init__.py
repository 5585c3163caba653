# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""NVIDIA's own kernel driver in the virtual machine, on GPUs that do not exist."""
