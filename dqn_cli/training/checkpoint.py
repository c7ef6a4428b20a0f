"""Checkpoints: self-describing, safe to open, whole.

A checkpoint is a zip of tensors and plain values. It is read with ``torch.load(weights_only=True)``, which builds
nothing but those: opening a stranger's file runs no code.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from dqn_cli.core.errors import UsageError
from dqn_cli.core.files import sync_folder, write_durably
from dqn_cli.core.stateful import State
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.segments import ReplaySegments

FORMAT = "dqn_cli checkpoint"
SCHEMA = 1
NEWEST = "checkpoint.pt"
BEST = "best.pt"
GENERATIONS = "checkpoints"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint file says.

    Attributes:
        path: The file.
        config: The resolved config, as plain values.
        name: Name of the config.
        step: Agent steps behind it.
        weights: Parameters of the online network.
        training: Everything a resume needs; None in files that hold weights only.
    """

    path: Path
    config: dict[str, Any]
    name: str
    step: int
    weights: dict[str, torch.Tensor]
    training: State | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint file, or the newest one of a run folder.

    Raises:
        UsageError: There is no such file, or it is damaged, foreign or hostile.
    """
    file = path / NEWEST if path.is_dir() else path
    if not file.is_file():
        hint = "the run has not saved one yet" if path.is_dir() else "give a checkpoint file or a run folder"
        raise UsageError(f"no checkpoint at {file}: {hint}")
    content = _load(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"{file} is not a checkpoint of dqn: it was written by another program")
    schema = content.get("schema")
    if schema != SCHEMA:
        raise UsageError(
            f"{file} has checkpoint schema {schema}, this version of dqn reads {SCHEMA}; use the version that wrote it"
        )
    try:
        return Checkpoint(
            path=file,
            config=dict(content["config"]),
            name=str(content["name"]),
            step=int(content["step"]),
            weights=dict(content["weights"]),
            training=content.get("training"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file} is damaged: {error!r} in its contents; use another checkpoint") from error


def _load(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UsageError(
            f"{file} is not a checkpoint of dqn: it holds something other than tensors and plain values, "
            "and nothing of it was run"
        ) from error
    except MemoryError as error:
        raise UsageError(f"{file} claims more memory than there is: it is damaged or foreign") from error
    except Exception as error:
        raise UsageError(f"{file} cannot be read: it is truncated or not a checkpoint of dqn") from error


class CheckpointWriter:
    """Writes the checkpoints of one run.

    Layout: ``checkpoints/STEP/checkpoint.pt`` for the newest ``keep`` generations, ``checkpoint.pt`` for the newest
    of them, ``replay/`` for the segments that the kept generations need, ``best.pt`` with the weights of the best
    evaluation, which pins no segment.

    Args:
        folder: The run folder.
        keep: Generations to keep.
        describe: Returns the part of a checkpoint that says what it is (config, name, versions).
    """

    def __init__(self, folder: Path, keep: int, describe: Callable[[], State]) -> None:
        self._folder, self._keep, self._describe = folder, keep, describe
        self._segments = ReplaySegments(folder / "replay")
        self._kept: list[tuple[Path, list[str]]] = []  # folder and segments of each generation, oldest first

    def save(self, step: int, weights: State, training: State, replay: Replay) -> Path:
        """Writes a generation, drops the oldest, and returns the path of the newest checkpoint."""
        segments = self._segments.save(replay)
        content = self._content(step, weights) | {"training": training | {"segments": segments}}
        generation = self._folder / GENERATIONS / f"{step:09d}"
        generation.mkdir(parents=True, exist_ok=True)
        write_durably(generation / NEWEST, lambda file: torch.save(content, file))
        self._point_to(generation / NEWEST)
        self._kept = [entry for entry in self._kept if entry[0] != generation] + [(generation, segments)]
        for old, _ in self._kept[: -self._keep]:
            shutil.rmtree(old)
        self._kept = self._kept[-self._keep :]
        self._segments.prune(name for _, names in self._kept for name in names)
        return self._folder / NEWEST

    def save_best(self, step: int, weights: State) -> Path:
        """Writes the weights alone as the best of the run."""
        content = self._content(step, weights)
        path = self._folder / BEST
        write_durably(path, lambda file: torch.save(content, file))
        return path

    def _content(self, step: int, weights: State) -> State:
        return {"format": FORMAT, "schema": SCHEMA, "step": step, "weights": weights, **self._describe()}

    def _point_to(self, newest: Path) -> None:
        """Makes ``checkpoint.pt`` the same file as ``newest``, or a copy where there are no hard links."""
        link = self._folder / f".{NEWEST}.{os.getpid()}.tmp"
        link.unlink(missing_ok=True)
        try:
            link.hardlink_to(newest)
        except OSError:
            shutil.copyfile(newest, link)
        link.replace(self._folder / NEWEST)
        sync_folder(self._folder)
