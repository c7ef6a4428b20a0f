"""Signals that end a run: noticed between two steps, so that everything can be saved."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class StopRequest:
    """Remembers a signal and tells its listeners; a second SIGINT raises ``KeyboardInterrupt`` at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.listeners: list[Callable[[], None]] = []

    @property
    def exit_code(self) -> int:
        """128 plus the number of the signal that arrived, or 0."""
        return 0 if self.signal is None else _CODES[self.signal]

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 a handler is called so
        """Is installed as the handler."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        for listener in self.listeners:
            listener()


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Catches SIGINT, SIGTERM and SIGHUP while the block runs."""
    request = StopRequest()
    previous = {number: signal.signal(number, request.handle) for number in _CODES}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
