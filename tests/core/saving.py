"""The way of a state through a checkpoint file."""

from __future__ import annotations

import io

import torch

from dqn_cli.core.stateful import State


def reloaded(state: State) -> State:
    """Returns what a checkpoint file would give back: only tensors and plain values pass."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: State = torch.load(file, weights_only=True)
    return loaded
