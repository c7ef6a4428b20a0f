"""When to learn: counts, never the clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pacing:
    """``updates`` gradient steps after every ``every_steps`` agent steps from ``begin_steps`` on.

    Attributes:
        begin_steps: Agent steps before learning begins; the first updates come ``every_steps`` later.
        every_steps: Agent steps over all environments between two bursts.
        updates: Gradient steps of a burst.
    """

    begin_steps: int
    every_steps: int
    updates: int

    def updates_until(self, step: int) -> int:
        """Returns how many updates belong to the first ``step`` agent steps."""
        return max(0, step - self.begin_steps) // self.every_steps * self.updates


def passed(every: int, before: int, after: int) -> bool:
    """Returns whether a multiple of ``every`` lies in (``before``, ``after``]."""
    return after // every > before // every
