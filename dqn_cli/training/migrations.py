"""Checkpoints of earlier versions, brought up to date when they are read.

A change of what a checkpoint holds, or of a config key, raises `SCHEMA` and adds a migration from the number before;
``tests/training/fixtures`` keeps a checkpoint of each.

- 1: replay segments were named in the state of the training; there were no manifests, and no run could be resumed.
- 2: manifests name the files of a generation; the state of a training is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dqn_cli.core.errors import UsageError
from dqn_cli.core.stateful import State

SCHEMA = 2
"""Of the checkpoints that are written."""


def migrated(content: State, file: Path) -> State:
    """Returns the content of a checkpoint file in the form of today.

    Raises:
        UsageError: It has no schema, or a later one.
    """
    schema = content.get("schema")
    if type(schema) is not int or schema < 1:
        raise UsageError(f"{file} is damaged: its 'schema' is not a number; use another checkpoint")
    if schema > SCHEMA:
        versions = content.get("versions")
        writer = versions.get("dqn_cli") if isinstance(versions, dict) else None
        raise UsageError(
            f"{file} has checkpoint schema {schema}, this version of dqn reads up to {SCHEMA}; use "
            + (f"dqn_cli {writer} or later" if isinstance(writer, str) else "the version that wrote it")
        )
    for number in range(schema, SCHEMA):
        content = _MIGRATIONS[number](content)
    return content


def _without_training(content: State) -> State:
    """Schema 1 to 2: its weights can be used; the state of its training was never meant to go on."""
    return content | {"schema": 2, "training": None}


_MIGRATIONS: dict[int, Callable[[State], State]] = {1: _without_training}
