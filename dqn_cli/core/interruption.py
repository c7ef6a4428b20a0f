"""Waits that may be ended from outside: by a signal handler, when someone must be gone in seconds."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Interrupted(BaseException):
    """A wait was ended before what was waited for had happened; no error, as ``KeyboardInterrupt`` is none.

    Args:
        waiting: Whose waits it ended.
    """

    def __init__(self, waiting: Waiting) -> None:
        super().__init__()
        self._waiting = waiting

    def take(self) -> None:
        """Is called by whoever catches it and saves: nothing is interrupted from here on.

        It may have been raised within `Waiting.__exit__`, before that had counted the wait as over.
        """
        self._waiting.finish()


class Waiting:
    """Marks the places where the main thread may be interrupted: what happens in them is as if it had never begun.

    A handler of signals runs between any two instructions of the main thread. Inside of ``with waiting:`` it may raise
    `Interrupted`, anywhere else it must not. Blocks may lie inside one another.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._ended = False

    def __enter__(self) -> Self:
        """Begins a wait."""
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it; once a wait was interrupted none is again, for who stops must be able to save."""
        if kind is Interrupted:
            self._ended = True
        self._depth -= 1

    def finish(self) -> None:
        """Ends all waits: none is interrupted any more."""
        self._ended = True

    def interrupt(self) -> None:
        """Is called by a handler in the main thread.

        Raises:
            Interrupted: A wait was going on. Code of a stranger may swallow it: then it is raised at the next call.
        """
        if self._depth > 0 and not self._ended:
            raise Interrupted(self)
