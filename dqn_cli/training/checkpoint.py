"""Checkpoints: self-describing, safe to open, whole.

A checkpoint is a zip of tensors and plain values. It is read with ``torch.load(weights_only=True)``, which builds
nothing but those: opening a stranger's file runs no code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dqn_cli.core.errors import UsageError
from dqn_cli.core.loading import load_plain
from dqn_cli.core.stateful import State
from dqn_cli.training.generations import MANIFEST, read_manifest
from dqn_cli.training.migrations import migrated

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
