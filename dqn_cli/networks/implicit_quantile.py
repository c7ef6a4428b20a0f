"""Implicit quantile networks: the quantile function of the return as a network of the fraction (IQN)."""

from __future__ import annotations

from math import pi
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dqn_cli.core.options import Counts, Options, PositiveCount
from dqn_cli.networks.heads import MOST_ATOMS
from dqn_cli.networks.layers import LinearFactory
from dqn_cli.networks.outputs import ImplicitQuantileOutput
from dqn_cli.rules.quantile import midpoints

_Number = Annotated[PositiveCount, Field(le=MOST_ATOMS)]


class ImplicitQuantileOptions(Options):
    """Quantiles of the return at random fractions for each action (IQN, Dabney et al. 2018b)."""

    kind: Literal["implicit_quantile"] = "implicit_quantile"
    distributional: ClassVar[bool] = True
    quantiles: _Number = Field(64, description="Random fractions in an update, N and N' in the paper.")
    acting_quantiles: _Number = Field(32, description="Fixed fractions behind a choice of action, K in the paper.")
    cosines: _Number = Field(64, description="Cosine features of a fraction.")
    dueling: bool = Field(False, description="Separate streams for state value and advantages.")
    hidden: Counts = Field((), description="Width of each hidden layer of a stream.")

    @property
    def pairs(self) -> int:
        """Numbers that the loss of one item compares."""
        return self.quantiles**2


class ImplicitQuantileHead(nn.Module):
    """Multiplies features with an embedding of the fraction (Dabney et al. 2018b, equation 4).

    Actions are chosen by the mean over the midpoints of K equal parts where the paper draws K fractions: the same
    expectation without its noise, so that an evaluation is a function of the weights.

    Args:
        streams: Module ``[M, F] -> [M, A, 1]``.
        features: F.
        cosines: Number of cosine features.
        quantiles: Random fractions of a sample.
        acting_quantiles: Fixed fractions of a mean.
        linear: Factory of the embedding's layer.
        generator: Stream of the fractions, on the network's device.
    """

    midpoints: Tensor
    frequencies: Tensor

    def __init__(
        self,
        streams: nn.Module,
        features: int,
        cosines: int,
        quantiles: int,
        acting_quantiles: int,
        linear: LinearFactory,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.streams, self.embedding = streams, linear(cosines, features)
        self._quantiles, self._generator = quantiles, generator
        self.register_buffer("midpoints", midpoints(acting_quantiles), persistent=False)
        self.register_buffer("frequencies", pi * torch.arange(cosines, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor) -> ImplicitQuantileOutput:
        """Returns the quantile function of every action."""
        return ImplicitQuantileOutput(_QuantileFunction(self, features))

    def quantiles(self, features: Tensor, fractions: Tensor) -> Tensor:
        """Returns quantiles ``[B, A, K]`` for ``features [B, F]`` at ``fractions [B, K]`` or ``[1, K]``."""
        cosines = torch.cos(fractions[:, :, None] * self.frequencies)
        embedded = torch.relu(self.embedding(cosines))  # [B or 1, K, F]
        mixed = features[:, None] * embedded
        quantiles: Tensor = self.streams(mixed.flatten(0, 1)).squeeze(2)
        return quantiles.view(len(features), fractions.shape[1], -1).transpose(1, 2)

    def draw(self, batch: int) -> Tensor:
        """Returns fresh fractions ``[B, K]``."""
        return torch.rand(batch, self._quantiles, generator=self._generator, device=self._generator.device)


class _QuantileFunction:
    """The quantile function of one batch."""

    def __init__(self, head: ImplicitQuantileHead, features: Tensor) -> None:
        self._head, self._features = head, features

    def mean(self) -> Tensor:
        return self._head.quantiles(self._features, self._head.midpoints[None]).mean(2)

    def sample(self) -> tuple[Tensor, Tensor]:
        fractions = self._head.draw(len(self._features))
        return self._head.quantiles(self._features, fractions), fractions
