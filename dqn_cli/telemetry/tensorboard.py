"""TensorBoard event files, written without TensorFlow, torch or a background thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

# Of the tensorboard package only its messages and its record format are used: `torch.utils.tensorboard` needs
# torch and takes four times as long to import, and `EventFileWriter` imports TensorFlow where that is
# installed and reports a full disk late, from its own thread.
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from dqn_cli.core.errors import RunError
from dqn_cli.telemetry.append_file import AppendFile

_PREFIX = "events.out.tfevents."


class TensorBoardLog:
    """Writes scalars and text that TensorBoard shows while the run goes on.

    Each log is a new event file in the folder, under a name that none had before, for a TensorBoard that is running
    remembers how far it has read each; it reads the files of a folder one after the other, by name. Every event goes
    to the operating system at once.

    Args:
        folder: Where the event file goes; created if missing.
        resume_step: A resumed run continues after this agent step: what earlier files hold beyond it is
            replaced. None for a new run.
        mark: Name and length of the event file that was the newest at that step; what came later is cut away. None:
            nothing is.

    Attributes:
        lost: The file of ``mark`` is gone: curves begin at ``resume_step``.

    Raises:
        RunError: The folder or the file cannot be written, or the file of ``mark`` is shorter than it was.
        ValueError: No event file has the name in ``mark``.
    """

    def __init__(self, folder: Path, resume_step: int | None = None, mark: tuple[str, int] | None = None) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = _next_name(folder)
            self.lost = mark is not None and not _cut_back(folder, *mark)
        except OSError as error:
            raise RunError(
                f"Cannot write TensorBoard events to '{folder}': {error.strerror}. Choose another folder."
            ) from error
        self._file = AppendFile(folder / name)
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if resume_step is not None:
            # TensorBoard drops what it has read at or after the step of a START.
            self._write(
                Event(
                    wall_time=time.time(),
                    step=resume_step + 1,
                    session_log=SessionLog(status=SessionLog.START),
                )
            )

    @property
    def path(self) -> Path:
        """The event file."""
        return self._file.path

    @property
    def offset(self) -> int:
        """Length of the event file in bytes."""
        return self._file.offset

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each of the curves named by tag, at agent step ``step``.

        Values are stored as float32. An empty mapping writes nothing.

        Raises:
            RunError: The disk is full or the file cannot be written.
        """
        if values:
            summary = Summary(
                value=[Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()]
            )
            self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Adds a text, which TensorBoard renders as Markdown.

        Raises:
            RunError: The disk is full or the file cannot be written.
        """
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        tensor = TensorProto(dtype=DT_STRING, string_val=[markdown.encode("utf-8", errors="replace")])
        value = Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=[value])))

    def flush(self) -> None:
        """Waits until everything written is on the disk (fsync)."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())


def check_mark(folder: Path, mark: tuple[str, int]) -> None:
    """Raises what `TensorBoardLog` would raise for a wrong ``mark``, and changes nothing."""
    name, offset = mark
    _number(name)
    if (folder / name).exists():
        with AppendFile(folder / name) as file:
            file.check(offset)


def _cut_back(folder: Path, name: str, offset: int) -> bool:
    """Cuts events back to where the file ``name`` had ``offset`` bytes and was the newest; False where it is gone."""
    number, there = _number(name), (folder / name).exists()
    if there:
        with AppendFile(folder / name) as file:
            file.truncate(offset)
    for path in folder.glob(_PREFIX + "*"):
        suffix = path.name.removeprefix(_PREFIX)
        if suffix.isdecimal() and int(suffix) > number:
            path.unlink()
    return there


def _number(name: str) -> int:
    suffix = name.removeprefix(_PREFIX)
    if not (name.startswith(_PREFIX) and suffix.isdecimal()):
        raise ValueError(f"{name!r} is the name of no event file")
    return int(suffix)


def _next_name(folder: Path) -> str:
    """Returns a name that sorts after those of the event files in ``folder``.

    A count and not the clock, as other writers do it: two files of one second, or a clock set back, would be
    read in the wrong order.
    """
    used = [path.name.removeprefix(_PREFIX) for path in folder.glob(_PREFIX + "*")]
    numbers = [int(suffix) for suffix in used if suffix.isdecimal()]
    return f"{_PREFIX}{max(numbers, default=0) + 1:06d}"
