# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""What `holdfast status --json` says on many nodes, read with suspicion, judged, and written as a page or a table."""
