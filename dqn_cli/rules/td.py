"""Temporal-difference rules for scalar action values. All arguments and results are ``[B]``."""

from __future__ import annotations

import torch
from torch import Tensor


def check_same_shape(**tensors: Tensor) -> None:
    """Raises ``ValueError`` unless all tensors are ``[B]`` with the same B: broadcasting hides bugs."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"expected tensors of one shape [B], got {shapes}")


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """Returns r + discount * v' (Watkins 1989; n-step and termination are in the discount)."""
    check_same_shape(reward=reward, discount=discount, next_value=next_value)
    return reward + discount * next_value


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Returns 0.5 e^2 for |e| <= delta and delta (|e| - 0.5 delta) beyond.

    With delta 1 its gradient is the TD error clipped to [-1, 1] (Mnih et al. 2015, Methods).
    """
    # One kernel each way, where writing the two branches out takes a dozen: half a millisecond an update.
    return torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def huber_slope(error: Tensor, delta: float = 1.0) -> Tensor:
    """Returns the derivative of ``huber``: the error, clipped to [-delta, delta]."""
    return error.clamp(-delta, delta)


def squared(error: Tensor) -> Tensor:
    """Returns 0.5 e^2, so that near zero its gradient is that of ``huber``."""
    return 0.5 * error.square()


def squared_slope(error: Tensor) -> Tensor:
    """Returns the derivative of ``squared``, which is the error."""
    return error


def select_action(values: Tensor, action: Tensor) -> Tensor:
    """Returns ``values[b, action[b]]`` as ``[B]`` for values ``[B, A]`` and actions ``[B]``."""
    if values.ndim != 2 or action.shape != values.shape[:1]:
        raise ValueError(f"expected values [B, A] and action [B], got {tuple(values.shape)} and {tuple(action.shape)}")
    return torch.gather(values, 1, action.unsqueeze(1)).squeeze(1)
