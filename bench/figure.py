# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""A measured figure: a value for each contender, the limit from the same run, and the goal."""

import dataclasses

OURS = "holdfast"
PEER = "peer"


@dataclasses.dataclass
class Figure:
    """values: by contender; None if it did not answer at all. limit: the best possible value, in the same unit.

    A goal is a ratio to the limit (ratio_goal) or to the other daemon's value (peer_goal), or a value of the unit
    (goal); some figures have none.
    """
    group: str
    name: str
    unit: str
    values: dict
    limit: float | None = None
    limit_is: str = ""
    ratio_goal: float | None = None
    goal: float | None = None
    peer_goal: float | None = None

    def ratio(self, who):
        """The ratio to the limit, or None without a limit."""
        value = self.values.get(who)
        return value / self.limit if value is not None and self.limit else None

    def against_peer(self):
        """The other daemon's value divided by ours: 2 means that ours is half as large."""
        ours, theirs = self.values.get(OURS), self.values.get(PEER)
        return theirs / ours if ours and theirs is not None else None

    @property
    def is_met(self):
        """Whether the goal is met; None without a goal."""
        if self.ratio_goal is not None:
            ratio = self.ratio(OURS)
            return ratio is not None and ratio <= self.ratio_goal
        if self.peer_goal is not None:
            theirs = self.values.get(PEER)
            return None if theirs is None else self.values[OURS] <= self.peer_goal * theirs
        return None if self.goal is None else self.values[OURS] is not None and self.values[OURS] <= self.goal

    def goal_text(self):
        if self.ratio_goal is not None:
            return f"{self.ratio_goal:g} x"
        if self.peer_goal is not None:
            return f"{self.peer_goal:g} x {PEER}"
        return "" if self.goal is None else f"{self.goal:g} {self.unit}".rstrip()

    def as_json(self):
        ratios = {who: self.ratio(who) for who in self.values}
        return dataclasses.asdict(self) | {"ratios": ratios, "peer_to_ours": self.against_peer(), "met": self.is_met}


def quantile(values, share):
    """Returns the value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
