"""Values that change with the count of agent steps."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi


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


@dataclass(frozen=True, slots=True)
class CosineSchedule:
    """``start`` at first, half a cosine down or up to ``end`` after ``over_steps``."""

    start: float
    end: float
    over_steps: int

    def __call__(self, step: int) -> float:
        """Returns the value at agent step ``step``."""
        done = min(1.0, step / self.over_steps)
        return self.end + (self.start - self.end) * 0.5 * (1.0 + cos(pi * done))
