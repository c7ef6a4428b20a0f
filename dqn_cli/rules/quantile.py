"""Rules for value distributions given by quantiles (Dabney et al. 2018a, QR-DQN; 2018b, IQN)."""

from __future__ import annotations

import torch
from torch import Tensor


def midpoints(count: int, device: torch.device | str | None = None) -> Tensor:
    """Returns the fractions (2i + 1) / 2K as ``[K]``: those whose quantiles fit best (Dabney et al. 2018a, Lemma 2)."""
    return (torch.arange(count, device=device) + 0.5) / count


def quantile_huber(quantiles: Tensor, fractions: Tensor, targets: Tensor, kappa: float = 1.0) -> Tensor:
    """Quantile regression with a Huber loss (Dabney et al. 2018a, equation 10; 2018b, equation 3).

    Sum over the quantiles of the mean over the targets of |tau - 1{u < 0}| huber(u) / kappa, u = target - quantile.

    Args:
        quantiles: ``[B, K]``.
        fractions: ``[B, K]`` or ``[K]``, the tau of each quantile.
        targets: ``[B, J]``.
        kappa: Error from which on the loss is linear, above 0.

    Returns:
        ``[B]``.
    """
    _check_pairs(quantiles, targets)
    if fractions.shape not in (quantiles.shape, quantiles.shape[1:]):
        raise ValueError(
            f"expected fractions [B, K] or [K] for quantiles {tuple(quantiles.shape)}, got {tuple(fractions.shape)}"
        )
    batch, count = quantiles.shape
    everyone = (batch, count, targets.shape[1])
    ours, theirs = quantiles.unsqueeze(2).expand(everyone), targets.unsqueeze(1).expand(everyone)
    tau = fractions.unsqueeze(-1)
    # Each pass over [B, K, J] counts: with 200 quantiles these are millions of numbers. Spread out by expand, the two
    # go into one kernel that needs no errors in memory.
    weight = torch.where(theirs < ours, 1.0 - tau, tau)
    loss = torch.nn.functional.huber_loss(ours, theirs, reduction="none", delta=kappa)
    return (weight * loss).sum((1, 2)) / (kappa * targets.shape[1])


def mean_absolute_error(quantiles: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean ``[B]`` of |target - quantile| over all pairs of quantiles ``[B, K]`` and targets ``[B, J]``."""
    _check_pairs(quantiles, targets)
    return (targets.unsqueeze(1) - quantiles.unsqueeze(2)).abs().mean((1, 2))


def _check_pairs(quantiles: Tensor, targets: Tensor) -> None:
    if quantiles.ndim != 2 or targets.ndim != 2 or len(quantiles) != len(targets):
        raise ValueError(
            f"expected quantiles [B, K] and targets [B, J], got {tuple(quantiles.shape)} and {tuple(targets.shape)}"
        )
