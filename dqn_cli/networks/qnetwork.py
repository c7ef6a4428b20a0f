"""The Q-network: stored observations in, an output object out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from dqn_cli.networks.noisy import NoisyLinear, resample
from dqn_cli.networks.outputs import Output, ScalarOutput
from dqn_cli.networks.written_out import WrittenOut, written_out_of


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
        written_out: The network layer by layer, where it is simple enough for that; None where it is more.
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
        self._plain = False
        self.written_out = self.written_out_on(self.device)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def written_out_on(self, device: torch.device) -> WrittenOut | None:
        """Returns the network layer by layer as it would be on ``device``, over the parameters as they are."""
        return None if self._plain else written_out_of(self.torso, self.head, device, self._autocast)

    def give_up_written_out(self) -> None:
        """Computes with torso and head alone from now on."""
        self._plain, self.written_out = True, None

    @contextmanager
    def plainly(self) -> Iterator[None]:
        """While entered it computes with torso and head alone."""
        written_out, self.written_out = self.written_out, None
        try:
            yield
        finally:
            self.written_out = written_out

    def _apply(self, *arguments: Any, **keywords: Any) -> Self:
        """Moves or converts the parameters, as `torch.nn.Module` has it: they may be other objects then."""
        super()._apply(*arguments, **keywords)  # type: ignore[no-untyped-call]
        self.written_out = self.written_out_on(self.device)
        return self

    def forward(self, observation: Tensor) -> Output:
        """Returns what is said of ``observation [B, S, ...]``, given in the storage dtype."""
        return self.of_scaled(self.scaled(observation))

    def of_scaled(self, scaled: Tensor) -> Output:
        """Returns what is said of an observation that `scaled` returned."""
        if self.written_out is not None and not torch.is_grad_enabled():
            return ScalarOutput(self.written_out.forward(scaled).values)
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

    def scaled(self, *observations: Tensor) -> Tensor:
        """Returns ``observations``, each ``[B, S, ...]``, one behind the other.

        In float32, scaled, in the torso's layout.
        """
        first = observations[0]
        layout = self._memory_format if first.ndim == 4 else torch.contiguous_format
        if self._scale == 1.0:
            joined = first if len(observations) == 1 else torch.cat(observations)
            return joined.to(torch.float32, memory_format=layout)
        shape = (len(observations) * len(first), *first.shape[1:])
        scaled = torch.empty(shape, dtype=torch.float32, device=first.device, memory_format=layout)
        for observation, part in zip(observations, scaled.chunk(len(observations)), strict=True):
            if observation.device.type == "cpu":
                # In steps that each go through memory in order: all at once takes four times as long.
                if layout == torch.channels_last:
                    observation = torch.stack(observation.unbind(1), -1).permute(0, 3, 1, 2)
                part.copy_(observation).mul_(self._scale)
            else:
                torch.mul(observation, self._scale, out=part)
        return scaled
