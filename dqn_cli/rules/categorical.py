"""Rules for value distributions on fixed atoms (Bellemare et al. 2017, C51)."""

from __future__ import annotations

import torch
from torch import Tensor


def project(atoms: Tensor, probabilities: Tensor, support: Tensor) -> Tensor:
    """Moves mass to the atoms of ``support``: each part to its two neighbours, in proportion to nearness.

    What lies beyond an end goes to that end (Bellemare et al. 2017, Algorithm 1).

    Args:
        atoms: ``[B, K]``, where the mass lies.
        probabilities: ``[B, K]``, how much lies there.
        support: ``[J]``, ascending and evenly spaced, J at least 2.

    Returns:
        ``[B, J]``, with the mass of ``probabilities``.
    """
    if atoms.ndim != 2 or atoms.shape != probabilities.shape or support.ndim != 1 or len(support) < 2:
        raise ValueError(
            "expected atoms [B, K], probabilities [B, K] and support [J] with J >= 2, got "
            f"{tuple(atoms.shape)}, {tuple(probabilities.shape)} and {tuple(support.shape)}"
        )
    # The weight of an atom is a hat, clamp(1 - |z - atom| / delta, min=0), so that neither a floor that equals its
    # ceiling nor a scatter, whose sums have no fixed order on CUDA, can occur. Each side of the hat has the gap that
    # it spans for delta: rounded atoms are not quite evenly spaced, and only so does a target that falls on an atom
    # give all its mass to it.
    gaps = support.diff()
    left = torch.cat((support[:1] - gaps[:1], support[:-1]))
    right = torch.cat((support[1:], support[-1:] + gaps[-1:]))
    targets = atoms.clamp(support[0], support[-1]).unsqueeze(2)
    rising = (targets - left) / (support - left)
    falling = (right - targets) / (right - support)
    weights = torch.minimum(rising, falling).clamp(min=0.0)  # [B, K, J]
    return (probabilities.unsqueeze(2) * weights).sum(1)


def cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Returns ``[B]``, minus the sum of target * log softmax(logits), for ``[B, K]`` both (Bellemare et al. 2017)."""
    if target.ndim != 2 or target.shape != logits.shape:
        raise ValueError(
            f"expected target and logits of one shape [B, K], got {tuple(target.shape)} and {tuple(logits.shape)}"
        )
    return -(target * torch.log_softmax(logits, 1)).sum(1)


def expected_value(logits: Tensor, support: Tensor) -> Tensor:
    """Returns the mean ``[...]`` of the distributions softmax(logits ``[..., K]``) on ``support [K]``."""
    if support.ndim != 1 or logits.shape[-1:] != support.shape:
        raise ValueError(
            f"expected logits [..., K] and support [K], got {tuple(logits.shape)} and {tuple(support.shape)}"
        )
    return (torch.softmax(logits, -1) * support).sum(-1)
