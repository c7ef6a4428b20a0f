"""Checkpoints: self-describing, safe to open, whole.

A checkpoint is a zip of tensors and plain values. It is read with ``torch.load(weights_only=True)``, which builds
nothing but those: opening a stranger's file runs no code.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dqn_cli.core.errors import RunError, UsageError
from dqn_cli.core.files import fingerprint, remove_leftovers, sync_folder, write_durably
from dqn_cli.core.loading import load_plain
from dqn_cli.core.stateful import State
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.segments import ReplaySegments
from dqn_cli.training.generations import (
    MANIFEST,
    SEGMENTS,
    Generation,
    delete_generation,
    free_name,
    generation_folder,
    kept_generations,
    read_manifest,
    write_manifest,
)
from dqn_cli.training.migrations import SCHEMA, migrated

FORMAT = "dqn_cli checkpoint"
NEWEST = "checkpoint.pt"
BEST = "best.pt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint file says.

    Attributes:
        path: The file.
        config: The resolved config, as plain values.
        name: Name of the config.
        step: Agent steps behind it.
        versions: Versions of the software that wrote it, and where its weights came from.
        weights: Parameters of the online network.
        training: Everything a resume needs beside the replay's segments; None in files that hold weights only.
    """

    path: Path
    config: dict[str, Any]
    name: str
    step: int
    versions: dict[str, str]
    weights: dict[str, torch.Tensor]
    training: State | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint file, or the newest one of a run folder.

    Raises:
        UsageError: There is no such file, or it is damaged, foreign or hostile.
    """
    file = _find(path)
    content = load_plain(file)
    if not isinstance(content, dict) or str(content.get("format")) != FORMAT:
        raise UsageError(f"{file} is not a checkpoint of dqn: it was written by another program")
    content = migrated(content, file)
    for key, is_right, what in _CONTENT:
        if not is_right(content.get(key)):
            raise UsageError(f"{file} is damaged: its '{key}' is not {what}; use another checkpoint")
    return Checkpoint(
        path=file,
        config=content["config"],
        name=content["name"],
        step=content["step"],
        versions=content["versions"],
        weights=content["weights"],
        training=content.get("training"),
    )


def _is_mapping_of(kind: type, value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items())


_MOST_VALUES, _MOST_CHARACTERS, _DEEPEST = 10_000, 100_000, 20
"""Of a config; lists that hold one list many times can claim billions in a file of some kilobytes."""


def _is_plain(config: Any) -> bool:
    """Returns whether a config is made of plain values, and of no more of them than anyone would write."""
    left, count, characters = [(config, 0)], 0, 0
    while left:
        value, depth = left.pop()
        count += 1
        if count > _MOST_VALUES or depth > _DEEPEST:
            return False
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                return False
            left += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple):
            left += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            characters += len(value)
            if characters > _MOST_CHARACTERS:
                return False
        elif value is not None and type(value) not in (bool, int, float):
            return False
    return True


_CONTENT: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("config", lambda value: _is_mapping_of(object, value) and _is_plain(value), "a config"),
    ("name", lambda value: isinstance(value, str), "the name of a config"),
    ("step", lambda value: type(value) is int and value >= 0, "a number of steps"),
    ("versions", lambda value: _is_mapping_of(str, value), "a list of versions"),
    ("weights", lambda value: _is_mapping_of(torch.Tensor, value), "the weights of a network"),
    ("training", lambda value: value is None or _is_mapping_of(object, value), "the state of a training"),
)


def _find(path: Path) -> Path:
    """Returns the checkpoint file that ``path`` means."""
    try:
        is_folder = path.is_dir()
        file = path / NEWEST if is_folder else path
        if is_folder and (path / MANIFEST).is_file():
            file = read_manifest(path).path
        if file.is_file():
            return file
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if not is_folder:
        reason = "it is no file" if path.exists() else "there is no such file"
        raise UsageError(f"{path} is no checkpoint: {reason}; give a checkpoint file or a run folder")
    if (path / "config.yaml").is_file():
        raise UsageError(f"there is no {file}: the run has not saved a checkpoint yet")
    raise UsageError(f"there is no {file}: give a checkpoint file or a run folder")


class CheckpointWriter:
    """Writes the checkpoints of one run.

    Layout: ``checkpoints/STEP/`` with a manifest for the newest ``keep`` generations, ``checkpoint.pt`` for the newest
    of them, ``replay/`` for the segments that the kept generations need, ``best.pt`` with the weights of the best
    evaluation, which pins no segment.

    Args:
        folder: The run folder.
        keep: Generations to keep.
        describe: Returns the part of a checkpoint that says what it is (config, name, versions).
    """

    def __init__(self, folder: Path, keep: int, describe: Callable[[], State]) -> None:
        self._folder, self._keep, self._describe = folder, keep, describe
        self._segments = ReplaySegments(folder / SEGMENTS)
        self._kept: list[Generation] = []  # oldest first

    def save(self, step: int, weights: State, training: State, replay: Replay) -> Path:
        """Writes a generation, drops the oldest, and returns the path of the newest checkpoint.

        Raises:
            RunError: The disk is full, read-only, or fails otherwise; the previous checkpoint is still whole.
        """
        folder = generation_folder(self._folder, step)
        try:
            segments = self._segments.save(replay)
            content = self._content(step, weights) | {"training": training}
            folder.mkdir(parents=True, exist_ok=True)
            name = free_name(folder)
            written = write_durably(folder / name, lambda file: torch.save(content, file))
            for parent in (folder.parent, self._folder):  # without this a crash may lose the new folders
                sync_folder(parent)
            generation = Generation(folder, step, name, written, segments)
            write_manifest(generation)
            self._point_to(generation.path)
            self._forget_old(generation)
        except (RunError, OSError) as error:
            with contextlib.suppress(OSError):
                if not (folder / MANIFEST).exists():
                    shutil.rmtree(folder)
            if isinstance(error, RunError):
                raise
            raise RunError(
                f"cannot write the checkpoint {folder}: {error.strerror}; the one before is untouched"
            ) from error
        return self._folder / NEWEST

    def stream(self, replay: Replay) -> None:
        """Writes frames that have arrived since the last checkpoint, if they fill a segment.

        Raises:
            RunError: The disk is full, read-only, or fails otherwise.
        """
        self._segments.stream(replay)

    def load(self, generation: Generation, replay: Replay) -> None:
        """Restores frames and items of the replay; ``Replay.load_state_dict`` comes after.

        Raises:
            UsageError: A segment is damaged or of another replay.
        """
        self._segments.load(replay, generation.segments)

    def go_on(self, generation: Generation) -> None:
        """Goes on behind ``generation``: deletes what a process wrote after it that was killed.

        Raises:
            RunError: The folder cannot be written.
        """
        try:
            self._kept = kept_generations(self._folder, generation)
            for folder in (self._folder, self._folder / SEGMENTS, *(kept.folder for kept in self._kept)):
                remove_leftovers(folder)
            self._segments.prune(name for kept in self._kept for name in kept.segments)
            self._point_to(generation.path)
        except OSError as error:
            raise RunError(f"cannot write the run folder {self._folder}: {error.strerror}") from error

    def save_best(self, step: int, weights: State) -> Path:
        """Writes the weights alone as the best of the run."""
        content = self._content(step, weights)
        path = self._folder / BEST
        write_durably(path, lambda file: torch.save(content, file))
        return path

    def _content(self, step: int, weights: State) -> State:
        return {"format": FORMAT, "schema": SCHEMA, "step": step, "weights": dict(weights), **self._describe()}

    def _forget_old(self, generation: Generation) -> None:
        kept = [entry for entry in self._kept if entry.folder != generation.folder] + [generation]
        for old in kept[: -self._keep]:
            delete_generation(old.folder)
        self._kept = kept[-self._keep :]
        self._segments.prune(name for entry in self._kept for name in entry.segments)

    def _point_to(self, newest: Path) -> None:
        """Makes ``checkpoint.pt`` the same file as ``newest``, or a copy where there are no hard links."""
        pointer = self._folder / NEWEST
        if pointer.exists() and (pointer.samefile(newest) or fingerprint(pointer) == fingerprint(newest)):
            return
        link = self._folder / f".{NEWEST}.{os.getpid()}.tmp"
        link.unlink(missing_ok=True)
        try:
            link.hardlink_to(newest)
        except OSError:
            write_durably(self._folder / NEWEST, lambda file: _copy(newest, file))
            return
        link.replace(self._folder / NEWEST)
        sync_folder(self._folder)


def _copy(source: Path, file: BinaryIO) -> None:
    with source.open("rb") as opened:
        shutil.copyfileobj(opened, file)
