"""A file that only grows, by whole records, and can be cut back to a remembered length."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Self

from dqn_cli.core.errors import RunError

_TAIL_BLOCK = 65_536


class AppendFile:
    """Appends whole records to a file: a record is in the file entirely or not at all.

    Each record goes to the operating system at once, so that a killed process loses none; `flush` makes them
    survive a power failure too. Every failure of the operating system becomes a `RunError` that names the
    file.

    Args:
        path: The file; created if missing, continued if there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._offset = 0
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._offset = os.fstat(self._descriptor).st_size
        except OSError as error:
            self.close()
            raise self._failure("open", error) from error

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def offset(self) -> int:
        """Length of the file in bytes; always the end of a whole record."""
        return self._offset

    def write(self, record: bytes) -> None:
        """Appends one record.

        Raises:
            RunError: The disk is full or the file cannot be written; the file keeps its whole records.
        """
        rest = memoryview(record)
        try:
            while rest:
                # A nearly full disk takes a part; the error comes with the next attempt.
                rest = rest[os.write(self._opened(), rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._offset)
            raise self._failure("write", error) from error
        self._offset += len(record)

    def flush(self) -> None:
        """Waits until everything written is on the disk (fsync).

        Raises:
            RunError: The disk refused.
        """
        try:
            os.fsync(self._opened())
        except OSError as error:
            raise self._failure("flush", error) from error

    def check(self, offset: int) -> None:
        """Raises `RunError` if the file is shorter than ``offset`` bytes, an earlier value of `offset`."""
        if not 0 <= offset <= self._offset:
            raise RunError(
                f"Cannot cut '{self._path}' back to {offset} bytes: it has {self._offset}. It was changed "
                "since that length was recorded; restore the file or start a new run."
            )

    def truncate(self, offset: int) -> None:
        """Cuts the file back to ``offset`` bytes, an earlier value of `offset`, and waits for the disk.

        Raises:
            RunError: The file is shorter than that.
        """
        self.check(offset)
        try:
            os.ftruncate(self._opened(), offset)
        except OSError as error:
            raise self._failure("truncate", error) from error
        self._offset = offset
        self.flush()

    def end_of_last(self, terminator: bytes, before: int) -> int:
        """Returns where the last one-byte ``terminator`` in the first ``before`` bytes ends, or 0."""
        end = before
        while end > 0:
            start = max(0, end - _TAIL_BLOCK)
            try:
                position = os.pread(self._opened(), end - start, start).rfind(terminator)
            except OSError as error:
                raise self._failure("read", error) from error
            if position >= 0:
                return start + position + 1
            end = start
        return 0

    def close(self) -> None:
        """Closes the file; may be called twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):  # nothing is buffered here that could be lost
                os.close(descriptor)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def _opened(self) -> int:
        if self._descriptor < 0:
            raise ValueError(f"'{self._path}' is closed")
        return self._descriptor

    def _failure(self, verb: str, error: OSError) -> RunError:
        return RunError(
            f"Cannot {verb} '{self._path}': {error.strerror}. Make room or check the permissions, then resume the run."
        )
