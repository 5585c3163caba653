# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""One interface, two drivers: the simulator, and NVIDIA's own code with fake GPUs."""
