"""Writes the checkpoints of one run: generations, the newest, the best."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch

from dqn_cli.core.errors import RunError
from dqn_cli.core.files import fingerprint, remove_leftovers, sync_folder, write_durably
from dqn_cli.core.stateful import State
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.segments import ReplaySegments
from dqn_cli.training.checkpoint import BEST, FORMAT, NEWEST
from dqn_cli.training.generations import (
    MANIFEST,
    SEGMENTS,
    Generation,
    delete_generation,
    free_name,
    generation_folder,
    kept_generations,
    write_manifest,
)
from dqn_cli.training.migrations import SCHEMA


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

        Those that were overwritten before there was a checkpoint go again.

        Raises:
            RunError: The disk is full, read-only, or fails otherwise.
        """
        try:
            streamed = self._segments.stream(replay)
        except OSError as error:
            raise RunError(f"cannot write the run folder {self._folder}: {error.strerror}") from error
        if streamed:
            self._prune()

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
            self._prune()
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
        self._prune()

    def _prune(self) -> None:
        try:
            self._segments.prune(name for entry in self._kept for name in entry.segments)
        except OSError as error:
            raise RunError(f"cannot write the run folder {self._folder}: {error.strerror}") from error

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
