"""Weight resets: against clinging to what was learnt first (Nikishin et al. 2022, D'Oro et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field

from dqn_cli.agent.gradient_step import GradientStep
from dqn_cli.core.options import Fraction, Options, PositiveCount
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.spectral import renew_singular_vectors


class ResetOptions(Options):
    """At fixed intervals the head begins anew and the torso is moved towards fresh weights."""

    every_updates: PositiveCount = Field(
        40_000, description="Gradient updates between two resets, and after the last one."
    )
    keep_torso: Fraction = Field(
        1.0, description="Part of the torso's weights that stays, the rest is fresh: 1 leaves the torso alone."
    )


class WeightResets:
    """Resets both networks after every ``every`` updates: a pure function of the count, with nothing to save.

    There is none after ``last``, so that a run does not end on a network that has hardly learnt.

    The head gets fresh weights (Nikishin et al. 2022); each weight of the torso becomes ``keep * w + (1 - keep) *
    fresh`` (shrink and perturb, Ash and Adams 2020, as in D'Oro et al. 2023). The optimiser forgets what it knew of
    those that changed.

    Args:
        every: Updates between two resets.
        keep_torso: Part of the torso that stays.
        last: Updates after which there is no reset any more.
        fresh: Makes the network of the n-th reset.
    """

    def __init__(self, every: int, keep_torso: float, last: int, fresh: Callable[[int], QNetwork]) -> None:
        self._every, self._keep_torso, self._last, self._fresh = every, keep_torso, last, fresh

    def steady(self, updates: int) -> int:
        """Returns after how many more than ``updates`` updates a reset may be."""
        return self._every - updates % self._every

    @torch.no_grad()
    def after_update(self, online: QNetwork, target: QNetwork, updates: int, gradient_step: GradientStep) -> None:
        """Resets if ``updates`` is a multiple of the interval."""
        if updates % self._every or updates > self._last:
            return
        fresh = self._fresh(updates // self._every)
        for network in (online, target):
            network.head.load_state_dict(fresh.head.state_dict())
            if self._keep_torso < 1.0:
                for weight, new in zip(network.torso.parameters(), fresh.torso.parameters(), strict=True):
                    weight.lerp_(new, 1.0 - self._keep_torso)
                renew_singular_vectors(network.torso)
        gradient_step.forget((online.head if self._keep_torso == 1.0 else online).parameters())
