"""Munchausen reinforcement learning (Vieillard et al. 2020, arXiv 2007.14430)."""

from __future__ import annotations

import torch
from torch import Tensor

from dqn_cli.rules.td import check_same_shape


def log_policy(values: Tensor, temperature: float) -> Tensor:
    """Returns log softmax(values / temperature), ``[B, A]`` both (Vieillard et al. 2020)."""
    _check_table("values", values)
    # The division comes after the maximum is gone: 1e3 / 0.03 in float32 is off by 1e-3, and so would be the result.
    return torch.log_softmax((values - values.amax(1, keepdim=True)) / temperature, 1)


def munchausen_bonus(log_policy_of_action: Tensor, alpha: float, temperature: float, floor: float) -> Tensor:
    """Returns what is added to the reward, alpha * clamp(temperature * log pi(a|s), floor, 0), ``[B]`` both.

    This is equation 2 of Vieillard et al. 2020; the floor, below 0, is their l_0.
    """
    check_same_shape(log_policy_of_action=log_policy_of_action)
    return alpha * (temperature * log_policy_of_action).clamp(floor, 0.0)


def entropy_bonus(log_policy: Tensor, temperature: float) -> Tensor:
    """Returns temperature times the entropy ``[B]`` of a policy whose logarithm is ``log_policy [B, A]``.

    The mean of the next values and this make the soft value (Vieillard et al. 2020, equation 1).
    """
    _check_table("log_policy", log_policy)
    # 0 log 0 is 0, and 0 times the lowest finite number, where 0 times -inf is not.
    finite = log_policy.clamp(min=torch.finfo(log_policy.dtype).min)
    return -temperature * (log_policy.exp() * finite).sum(1)


def _check_table(name: str, table: Tensor) -> None:
    if table.ndim != 2:
        raise ValueError(f"expected {name} [B, A], got {tuple(table.shape)}")
