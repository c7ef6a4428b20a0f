"""JSON lines: one record a line, readable while it is written and after a crash."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from dqn_cli.core.errors import RunError, UsageError
from dqn_cli.telemetry.append_file import AppendFile


class JsonlLog:
    """An append-only log of JSON objects, one a line.

    A line goes to the operating system whole and at once. A last line that a crash or a full disk has torn is
    cut off when the log is opened, because the next record would be glued to it.

    Args:
        path: The file; created if missing, continued if there.

    Raises:
        RunError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = AppendFile(path)
        whole = self._file.end_of_last(b"\n", self._file.offset)
        if whole < self._file.offset:
            self._file.truncate(whole)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def offset(self) -> int:
        """Length of the log in bytes: what a checkpoint records for `truncate`."""
        return self._file.offset

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record.

        Numbers of NumPy and torch become Python's, tuples become lists, and numbers that are not finite, for
        which JSON has no word, become null.

        Raises:
            TypeError: A value has no JSON form, or a key is not text.
            RunError: The disk is full or the file cannot be written; the whole lines before stay.
        """
        # json escapes line breaks inside text, so a record cannot span two lines.
        line = json.dumps(_plain(record, "record"), allow_nan=False)
        self._file.write(line.encode("ascii") + b"\n")

    def flush(self) -> None:
        """Waits until everything written is on the disk (fsync)."""
        self._file.flush()

    def check(self, offset: int) -> None:
        """Raises `RunError` if the log is shorter than ``offset``, or no line ends there."""
        self._file.check(offset)
        if self._file.end_of_last(b"\n", offset) != offset:
            raise RunError(
                f"Cannot cut '{self.path}' back to {offset} bytes: no line ends there. It was changed since "
                "that length was recorded; restore the file or start a new run."
            )

    def truncate(self, offset: int) -> None:
        """Cuts the log back to ``offset`` bytes, so that a resumed run writes the rest again.

        Raises:
            RunError: The log is shorter than that, or no line ends there.
        """
        self.check(offset)
        self._file.truncate(offset)

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a log, also of one that is being written.

    A last line without its line break is one that a crash has torn or that is still on its way: it is left
    out.

    Raises:
        UsageError: The file cannot be read, or a whole line is not a JSON object.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith(b"\n") and not line.isspace():
                    yield _parse(line, path, number)
    except OSError as error:
        raise UsageError(f"Cannot read '{path}': {error.strerror}. Check the path and its permissions.") from error


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:  # also UnicodeDecodeError
        raise UsageError(
            f"'{path}' line {number} is not JSON ({error}). Remove that line or restore the file."
        ) from error
    if not isinstance(record, dict):
        raise UsageError(
            f"'{path}' line {number} is not a JSON object but {line.decode().strip()[:40]!r}. "
            "Name a log that dqn has written."
        )
    return record


def _plain(value: Any, place: str) -> Any:
    """Returns ``value`` in Python's own JSON types; ``place`` says where it stands, for the error."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, Mapping):
        return {_key(key, place): _plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    # NumPy's booleans and arrays, and torch's tensors, with one element and no dimension. Asked by shape and
    # not by type: this file must not import torch.
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return _plain(value.item(), place)
    raise TypeError(f"{place} is a {type(value).__name__}, which has no JSON form: {value!r:.80}")


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{place} has the key {key!r}: keys of a record are text")
    return key
