"""From observations to actions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dqn_cli.agent.explorer import Explorer
from dqn_cli.core.devices import to_device, to_host
from dqn_cli.core.types import Array, IntArray
from dqn_cli.networks.qnetwork import QNetwork

Greedy = Callable[[Tensor], Tensor]
"""Observations ``[N, S, ...]`` on the device -> actions ``[N]`` there."""


def greedy_values(network: QNetwork, observation: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the actions of highest value ``[N]``, ties to the lowest, and all values ``[N, A]``, on the device."""
    with torch.inference_mode():
        values = network(observation).values()
        return values.argmax(1), values


def greedy_actions(network: QNetwork, observation: Array, device: torch.device) -> IntArray:
    """Returns the actions of highest value ``[N]`` for ``observation [N, S, ...]``; ties go to the lowest."""
    return to_host(greedy_values(network, to_device(observation, device))[0])


class Actor:
    """Greedy actions, some of which the explorer replaces; noisy layers get fresh noise for each vector step.

    Args:
        network: The online network.
        explorer: Decides where to act at random.
        device: Where the network lives.
        greedy: Another way to the same actions; None for the plain one.
    """

    def __init__(
        self, network: QNetwork, explorer: Explorer, device: torch.device, greedy: Greedy | None = None
    ) -> None:
        self._network, self.explorer, self._device = network, explorer, device
        self._greedy = greedy or (lambda observation: greedy_values(network, observation)[0])

    def act(self, observation: Array, step: int) -> IntArray:
        """Returns actions ``[N]`` for ``observation [N, S, ...]`` at agent step ``step``."""
        random, random_actions = self.explorer.explore(step)
        if random.all():
            return random_actions
        return np.where(random, random_actions, self.act_greedily(observation))

    def act_greedily(self, observation: Array) -> IntArray:
        """Returns the actions of highest value ``[N]`` under fresh noise; the one wait of a vector step."""
        self._network.resample()
        return to_host(self._greedy(to_device(observation, self._device)))
