"""The live display of a run on a terminal. Importing it imports rich."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Self, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dqn_cli.telemetry.snapshot import Snapshot, facts, percent, remaining, speed
from dqn_cli.telemetry.stream import LastingStream

_REFRESH_SECONDS = 0.25
_GAP = "  "
_LEAST_BAR = 15


class LiveProgress:
    """One display that is redrawn in place, at most four times a second; messages scroll by above it.

    It draws inside `update` and has no thread: one that holds a lock while worker processes fork would hang
    them.

    Args:
        total_steps: Agent steps of the whole run.
        stream: A terminal.
        clock: Seconds, which pace the redraws.
    """

    def __init__(self, total_steps: int, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._total_steps = total_steps
        self._clock = clock
        # What others write to stderr must appear above the display. stdout is left alone: a program may read
        # it.
        self._redirect_stderr = stream is sys.stderr
        lasting = cast("TextIO", LastingStream(stream))
        self._console = Console(file=lasting, force_terminal=True, highlight=False, emoji=False)
        self._live: Live | None = None
        self._stopped = False
        self._snapshot: Snapshot | None = None
        self._drawn_at = float("-inf")

    def start(self) -> None:
        """Begins; the display appears with the first update."""

    def update(self, snapshot: Snapshot) -> None:
        """Shows where the run stands, unless the last redraw is less than a quarter of a second ago."""
        self._snapshot = snapshot
        now = self._clock()
        if self._stopped or now - self._drawn_at < _REFRESH_SECONDS:
            return
        self._drawn_at = now
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=self._redirect_stderr,
                get_renderable=self._render,
            )
            self._live.start()
        self._live.refresh()

    def message(self, text: str) -> None:
        """Prints ``text`` above the display."""
        self._console.print(text, markup=False)

    def stop(self) -> None:
        """Draws the last state, leaves it there, and shows the cursor again."""
        self._stopped = True
        if self._live is None:
            return
        try:
            self._live.stop()
        finally:  # a second Ctrl-C may have interrupted rich
            self._console.show_cursor(True)
            self._live = None

    def __enter__(self) -> Self:
        """Starts."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops, whatever happened."""
        self.stop()

    def _render(self) -> RenderableType:
        snapshot = self._snapshot
        if snapshot is None:
            return Text()
        width = self._console.width
        place = f"{percent(snapshot.step, self._total_steps)}%  {snapshot.step:,}/{self._total_steps:,}"
        rate, left = speed(snapshot), remaining(snapshot, self._total_steps)
        details = [Text.assemble((f"{label} ", "dim"), value) for label, value in facts(snapshot)]
        for cells, rest in (([place, rate, left], []), ([place, left], [rate])):
            if width - len(_GAP.join(["", *cells])) >= _LEAST_BAR:
                return Group(self._bar(snapshot, cells), *_flow([*details, *map(Text, rest)], width))
        return Group(*_flow([Text(place), Text(left), *details, Text(rate)], width))

    def _bar(self, snapshot: Snapshot, cells: list[str]) -> Table:
        row = Table.grid(padding=(0, len(_GAP), 0, 0), expand=True)
        row.add_column(ratio=1)
        for _ in cells:
            row.add_column(no_wrap=True)
        done = min(snapshot.step, self._total_steps)
        row.add_row(ProgressBar(total=self._total_steps, completed=done), *cells)
        return row


def _flow(facts: list[Text], width: int) -> list[Text]:
    """Returns lines of at most ``width`` columns; a fact is never broken where it fits in a line."""
    lines: list[Text] = []
    for fact in facts:
        if lines and lines[-1].cell_len + len(_GAP) + fact.cell_len <= width:
            lines[-1].append(_GAP).append_text(fact)
        else:
            lines.append(Text(no_wrap=True, overflow="ellipsis").append_text(fact))
    return lines
