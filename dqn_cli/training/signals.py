"""Signals to a run: stop and save, or save and go on; noticed between two steps, so that everything can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dqn_cli.core.interruption import Waiting

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

GRACE_SECONDS = 1.0
"""What a step in hand gets to end by itself; then its wait is interrupted, and the step counts as not taken."""

_AGAIN_SECONDS = 1.0
_AT_ONCE_SECONDS = 0.001


class StopRequest:
    """Remembers signals and tells its listeners; a SIGINT after the first one raises ``KeyboardInterrupt`` at once.

    Args:
        arm_timer: Has `handle_alarm` called so many seconds later, and then again and again; None: nothing will.

    Attributes:
        signal: The signal that ends the run, None while there is none.
        waiting: The waits that such a signal may end after `GRACE_SECONDS`, and at once while nobody listens.
    """

    def __init__(self, arm_timer: Callable[[float], object] | None = None) -> None:
        self._arm_timer = arm_timer
        self.signal: signal.Signals | None = None
        self.waiting = Waiting()
        self._listeners: list[Callable[[], None]] = []
        self._savers: list[Callable[[], None]] = []

    @property
    def exit_code(self) -> int:
        """128 plus the number of the signal that arrived, or 0."""
        return 0 if self.signal is None else _CODES[self.signal]

    def listen(self, listener: Callable[[], None], saver: Callable[[], None] = lambda: None) -> None:
        """Calls ``listener`` when a signal to stop arrives, or now if one has; ``saver`` at each SIGUSR1.

        Both may be called more than once.
        """
        self._listeners.append(listener)
        self._savers.append(saver)
        if self.signal is not None:
            listener()

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 a handler is called so
        """Is installed as the handler of the signals that stop a run."""
        if self.signal is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.signal = signal.Signals(number)
        for listener in self._listeners:
            listener()
        if self._arm_timer is not None:
            grace = GRACE_SECONDS if self._listeners else _AT_ONCE_SECONDS  # nobody listens: nothing has begun
            self._arm_timer(grace)

    def handle_save(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Is installed as the handler of SIGUSR1."""
        for saver in self._savers:
            saver()

    def handle_alarm(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Is installed as the handler of the timer: the grace is over.

        Raises:
            Interrupted: The run waits for something.
        """
        if self.signal is not None:
            self.waiting.interrupt()


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Catches SIGINT, SIGTERM, SIGHUP and SIGUSR1 while the block runs.

    A signal that was ignored before stays so: ``nohup`` and the shell's background jobs rely on it. Outside of the
    main thread, where Python allows no handlers, nothing is caught.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    request = StopRequest(_arm_timer if in_main_thread else None)
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = dict.fromkeys(_CODES, request.handle)
    handlers |= {signal.SIGUSR1: request.handle_save, signal.SIGALRM: request.handle_alarm}
    previous: dict[signal.Signals, Any] = {}
    try:
        if in_main_thread:
            for number, handler in handlers.items():
                if signal.getsignal(number) != signal.SIG_IGN:
                    previous[number] = signal.signal(number, handler)
        yield request
    finally:
        if in_main_thread:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _arm_timer(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
