"""Checkpoints of earlier versions, brought up to date when they are read.

A change of what a checkpoint holds, or of a config key, raises `SCHEMA` and adds a migration from the number before;
``tests/training/fixtures`` keeps a checkpoint of each.

- 1: replay segments were named in the state of the training; there were no manifests, and no run could be resumed.
- 2: manifests name the files of a generation; the state of a training is whole.
- 3: optimisers are our own: RMSProp with epsilon outside the root was torch's, with names of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from dqn_cli.core.errors import UsageError
from dqn_cli.core.stateful import State

SCHEMA = 3
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


def _own_optimizer(content: State) -> State:
    """Schema 2 to 3: brings names and settings of torch's optimisers to those of ours.

    What is not in the form of schema 2 stays as it is, and is refused where it is loaded.
    """
    content = content | {"schema": 3}
    try:
        training = content["training"]
        learner = training["learner"]
        optimizer = learner["optimizer"]
        states = {number: _own_state(state) for number, state in optimizer["state"].items()}
        groups = [_own_group(group) for group in optimizer["param_groups"]]
    except (AttributeError, KeyError, TypeError):  # among them the files without a training
        return content
    own = learner | {"optimizer": {"state": states, "param_groups": groups}}
    return content | {"training": training | {"learner": own}}


def _own_state(state: State) -> State:
    if "square_avg" not in state:
        return state
    square = state["square_avg"]
    return {"square": square, "mean": state["grad_avg"] if "grad_avg" in state else torch.zeros_like(square)}


def _own_group(group: State) -> State:
    own = {name: value for name, value in group.items() if name not in _SETTINGS_OF_TORCH}
    if "alpha" in group:  # RMSProp; its weight decay was never anything but 0
        own = {name: value for name, value in own.items() if name != "weight_decay"} | {"decay": group["alpha"]}
    return own


_SETTINGS_OF_TORCH = {"fused", "alpha", "momentum", "foreach", "maximize", "differentiable", "capturable"}
_MIGRATIONS: dict[int, Callable[[State], State]] = {1: _without_training, 2: _own_optimizer}
