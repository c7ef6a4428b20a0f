"""From observations to actions."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from dqn_cli.agent.explorer import Explorer
from dqn_cli.core.devices import to_device, to_host
from dqn_cli.core.types import Array, IntArray
from dqn_cli.networks.qnetwork import QNetwork


def greedy_actions(network: QNetwork, observation: Array, device: torch.device) -> IntArray:
    """Returns the actions of highest value ``[N]`` for ``observation [N, S, ...]``; ties go to the lowest."""
    with torch.inference_mode():
        values = network(to_device(observation, device)).values()
        return cast("IntArray", to_host(values.argmax(1)))  # the one wait of a vector step


class Actor:
    """Greedy actions, some of which the explorer replaces; noisy layers get fresh noise for each vector step.

    Args:
        network: The online network.
        explorer: Decides where to act at random.
        device: Where the network lives.
    """

    def __init__(self, network: QNetwork, explorer: Explorer, device: torch.device) -> None:
        self._network, self.explorer, self._device = network, explorer, device

    def act(self, observation: Array, step: int) -> IntArray:
        """Returns actions ``[N]`` for ``observation [N, S, ...]`` at agent step ``step``."""
        random, random_actions = self.explorer.explore(step)
        if random.all():
            return random_actions
        self._network.resample()
        return np.where(random, random_actions, greedy_actions(self._network, observation, self._device))
