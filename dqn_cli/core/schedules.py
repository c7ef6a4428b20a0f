"""Values that change with the count of agent steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinearSchedule:
    """``start`` until ``begin_steps``, then a straight line that reaches ``end`` after ``over_steps`` more.

    A pure function of the count: nothing to save, nothing to reset.
    """

    start: float
    end: float
    begin_steps: int
    over_steps: int

    def __call__(self, step: int) -> float:
        """Returns the value at agent step ``step``."""
        if step <= self.begin_steps:
            return self.start
        if step >= self.begin_steps + self.over_steps:
            return self.end
        return self.start + (self.end - self.start) * (step - self.begin_steps) / self.over_steps
