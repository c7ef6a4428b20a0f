"""A text stream that a run outlives."""

from __future__ import annotations

import contextlib
from typing import TextIO


class LastingStream:
    """Passes text on to a stream until that is gone: a closed terminal or pipe must not end a run.

    Args:
        stream: A terminal, pipe or file.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Writes ``text``, or drops it."""
        if self._stream is not None:
            try:
                self._stream.write(text)
            except BlockingIOError:  # a slow reader of a non-blocking pipe: the next text may get through
                pass
            except (OSError, ValueError):  # ValueError: it was closed
                self._stream = None
        return len(text)

    def flush(self) -> None:
        """Hands everything written to the operating system, or drops it."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except BlockingIOError:
                pass
            except (OSError, ValueError):
                self._stream = None

    def isatty(self) -> bool:
        """Returns whether the stream is a terminal that is still there."""
        with contextlib.suppress(ValueError):
            return self._stream is not None and self._stream.isatty()
        return False
