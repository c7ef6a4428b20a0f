"""What a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

State = dict[str, Any]
"""Nested dicts and lists of tensors and plain values: what ``torch.load(weights_only=True)`` reads back."""


@runtime_checkable
class Stateful(Protocol):
    """Whatever changes while a run goes on and must be the same after a resume.

    ``load_state_dict(state_dict())`` on a freshly built object makes it indistinguishable from the saved one.
    """

    def state_dict(self) -> State:
        """Returns the whole state; later changes of the object do not reach into it."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        ...


def detached(state: Any) -> Any:
    """Returns a copy of nested mappings and sequences whose tensors share no memory with the original."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: detached(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(detached(value) for value in state)
    return state
