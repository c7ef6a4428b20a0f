"""Signals that end a run: noticed between two steps, so that everything can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class StopRequest:
    """Remembers a signal and tells its listeners; a SIGINT after it raises ``KeyboardInterrupt`` at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def exit_code(self) -> int:
        """128 plus the number of the signal that arrived, or 0."""
        return 0 if self.signal is None else _CODES[self.signal]

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls ``listener`` when a signal arrives, or now if one has arrived; it may be called more than once."""
        self._listeners.append(listener)
        if self.signal is not None:
            listener()

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 a handler is called so
        """Is installed as the handler."""
        if self.signal is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.signal = signal.Signals(number)
        for listener in self._listeners:
            listener()


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Catches SIGINT, SIGTERM and SIGHUP while the block runs.

    A signal that was ignored before stays so: ``nohup`` and the shell's background jobs rely on it. Outside of the
    main thread, where Python allows no handlers, nothing is caught.
    """
    request = StopRequest()
    previous = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in _CODES:
                if signal.getsignal(number) != signal.SIG_IGN:
                    previous[number] = signal.signal(number, request.handle)
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
