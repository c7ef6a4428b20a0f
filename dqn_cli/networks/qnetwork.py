"""The Q-network: stored observations in, an output object out."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from dqn_cli.networks.noisy import NoisyLinear, resample
from dqn_cli.networks.outputs import Output, ScalarOutput
from dqn_cli.networks.perceptron import Perceptron, perceptron_of


class QNetwork(nn.Module):
    """A torso and a head, with the conversion of stored values in front.

    Args:
        torso: Module ``[B, S, ...] -> [B, F]``.
        head: Module ``[B, F] -> Output``.
        scale: Factor that stored values are multiplied with.
        generator: Stream of the network's own randomness, on its device: noise, and fractions of quantiles.
        autocast: Dtype of the torso's arithmetic where it is not float32; weights and head stay float32.
        channels_last: Whether images are laid out channels last in memory.

    Attributes:
        perceptron: The network written out, where it is nothing but linear layers and ReLU; None where it is more.
    """

    def __init__(
        self,
        torso: nn.Module,
        head: nn.Module,
        scale: float,
        generator: torch.Generator,
        autocast: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.torso, self.head, self.generator = torso, head, generator
        self._noisy = [module for module in self.modules() if isinstance(module, NoisyLinear)]
        self._scale, self._autocast = scale, autocast
        self.perceptron = self._written_out()
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _written_out(self) -> Perceptron | None:
        return None if self._autocast else perceptron_of(self.torso, self.head)

    def _apply(self, *arguments: Any, **keywords: Any) -> Self:
        """Moves or converts the parameters, as `torch.nn.Module` has it: they may be other objects then."""
        super()._apply(*arguments, **keywords)  # type: ignore[no-untyped-call]
        self.perceptron = self._written_out()
        return self

    def forward(self, observation: Tensor) -> Output:
        """Returns what is said of ``observation [B, S, ...]``, given in the storage dtype."""
        scaled = self.scaled(observation)
        if self.perceptron is not None and not torch.is_grad_enabled():
            return ScalarOutput(self.perceptron.activations(scaled.flatten(1))[-1])
        if self._autocast is None:
            features = self.torso(scaled)
        else:
            with torch.autocast(scaled.device.type, self._autocast):
                features = self.torso(scaled)
        output: Output = self.head(features.to(torch.float32))
        return output

    def resample(self) -> None:
        """Draws fresh noise for noisy layers; without any, nothing happens."""
        if self._noisy:
            resample(self._noisy, self.generator)

    def scaled(self, observation: Tensor) -> Tensor:
        """Returns ``observation [B, S, ...]`` in float32, scaled, in the torso's layout: all in one pass over it."""
        layout = self._memory_format if observation.ndim == 4 else torch.contiguous_format
        if self._scale == 1.0:
            return observation.to(torch.float32, memory_format=layout)
        scaled = torch.empty_like(observation, dtype=torch.float32, memory_format=layout)
        return torch.mul(observation, self._scale, out=scaled)
