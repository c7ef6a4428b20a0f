"""What a person sees on stderr while a run goes on."""

from __future__ import annotations

import os
import sys
from typing import Protocol, Self, TextIO

from dqn_cli.telemetry.snapshot import RETURN_WINDOW, Snapshot, facts, percent, remaining, speed
from dqn_cli.telemetry.stream import LastingStream

__all__ = [
    "RETURN_WINDOW",
    "PlainProgress",
    "ProgressDisplay",
    "SilentProgress",
    "Snapshot",
    "progress_display",
]

_LINES = 20
_LINE_STEPS = 100_000


class ProgressDisplay(Protocol):
    """Shows where a run stands; used as a context manager, which leaves a clean terminal behind.

    A display never ends a run: where its stream is gone (a closed terminal or pipe), it falls silent.
    """

    def start(self) -> None:
        """Begins; nothing is drawn before the first update."""
        ...

    def update(self, snapshot: Snapshot) -> None:
        """Shows where the run stands; cheap enough for every vector step."""
        ...

    def message(self, text: str) -> None:
        """Prints a line that stays, such as the result of an evaluation."""
        ...

    def stop(self) -> None:
        """Shows the last state and gives the terminal back; may be called twice."""
        ...

    def __enter__(self) -> Self:
        """Starts."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stops, whatever happened."""
        ...


def progress_display(total_steps: int, quiet: bool, stream: TextIO | None = None) -> ProgressDisplay:
    """Returns the display that fits: silent, live on a terminal, plain lines elsewhere.

    Args:
        total_steps: Agent steps of the whole run, at least 1.
        quiet: Show nothing.
        stream: Where to show it; None is the present ``sys.stderr``.

    Raises:
        ValueError: ``total_steps`` is less than 1.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps is {total_steps}: it must be at least 1")
    stream = stream or sys.stderr
    if quiet:
        return SilentProgress()
    if stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown"):
        # Here, because rich takes a tenth of a second to import and nobody else needs it.
        from dqn_cli.telemetry.live import LiveProgress

        return LiveProgress(total_steps, stream)
    return PlainProgress(total_steps, stream)


class SilentProgress:
    """Shows nothing."""

    def start(self) -> None:
        """Does nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Does nothing."""

    def message(self, text: str) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Does nothing."""

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing."""


class PlainProgress:
    """A line every so many steps, for files and pipes.

    Lines are paced by counts, one each 5% of the run or 100,000 steps if that is less: two logs of one run
    have the same lines.

    Args:
        total_steps: Agent steps of the whole run.
        stream: Where the lines go.
    """

    def __init__(self, total_steps: int, stream: TextIO) -> None:
        self._total_steps = total_steps
        self._stream = LastingStream(stream)
        self._interval = max(1, min(total_steps // _LINES, _LINE_STEPS))
        self._latest: Snapshot | None = None
        self._printed_step = -1

    def start(self) -> None:
        """Begins."""

    def update(self, snapshot: Snapshot) -> None:
        """Prints the first state, the last, and one for each interval that has begun."""
        self._latest = snapshot
        begun = self._printed_step < 0 or snapshot.step // self._interval > self._printed_step // self._interval
        if begun or snapshot.step >= self._total_steps:
            self._print(snapshot)

    def message(self, text: str) -> None:
        """Prints ``text`` as a line of its own."""
        self._write(text)

    def stop(self) -> None:
        """Prints the last state if it has not been printed."""
        if self._latest is not None:
            self._print(self._latest)

    def __enter__(self) -> Self:
        """Starts."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops, whatever happened."""
        self.stop()

    def _print(self, snapshot: Snapshot) -> None:
        if snapshot.step == self._printed_step:
            return
        self._printed_step = snapshot.step
        place = f"step {snapshot.step:,}/{self._total_steps:,} ({percent(snapshot.step, self._total_steps)}%)"
        values = [f"{label} {value}" for label, value in facts(snapshot)]
        self._write("  ".join([place, *values, speed(snapshot), remaining(snapshot, self._total_steps)]))

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
