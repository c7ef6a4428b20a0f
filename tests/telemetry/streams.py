"""Snapshots, streams and a clock for the tests of the displays."""

from __future__ import annotations

import io

from dqn_cli.telemetry.snapshot import Snapshot


def snapshot(step: int, **changes) -> Snapshot:
    values = {
        "episodes": 214,
        "return_mean": 312.44,
        "epsilon": 0.05,
        "loss": 0.0123,
        "q_mean": 42.1,
        "steps_per_second": 1234.5,
    }
    return Snapshot(step=step, **{**values, **changes})


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Gone(Terminal):
    """A terminal that was closed after ``good`` writes."""

    def __init__(self, good: int) -> None:
        super().__init__()
        self.good = good

    def write(self, text: str) -> int:
        self.good -= 1
        if self.good < 0:
            raise OSError(5, "Input/output error")
        return super().write(text)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
