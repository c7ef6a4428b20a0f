"""Heads: from features ``[B, F]`` to an output object. The dueling combinator serves any number of atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from dqn_cli.core.options import Counts, Options, PositiveCount
from dqn_cli.networks.layers import LinearFactory, rectified_stack
from dqn_cli.networks.outputs import CategoricalOutput, Output, QuantileOutput, ScalarOutput
from dqn_cli.rules.quantile import midpoints

MOST_ATOMS = 1_000
"""A loss compares each of them with each: a million numbers for an item."""

_Return = Annotated[float, Field(ge=-1e9, le=1e9)]


class Head(Protocol):
    """A module that maps features ``[B, F]`` to an output object."""

    def __call__(self, features: Tensor) -> Output:
        """Returns the output object of a batch."""
        ...


@dataclass(frozen=True, slots=True)
class HeadInputs:
    """What a head is built between and with.

    Attributes:
        features: F.
        num_actions: A.
        linear: Factory of the layers that choose among actions, noisy ones where the network is.
        plain_linear: Factory of layers that are never noisy.
        generator: Stream of the head's own randomness, on the network's device.
    """

    features: int
    num_actions: int
    linear: LinearFactory
    plain_linear: LinearFactory
    generator: torch.Generator


class ScalarOptions(Options):
    """One value for each action."""

    kind: Literal["scalar"] = "scalar"
    distributional: ClassVar[bool] = False
    pairs: ClassVar[int] = 0
    dueling: bool = Field(False, description="Separate streams for state value and advantages.")
    hidden: Counts = Field((), description="Width of each hidden layer of a stream.")


class PlainStream(nn.Module):
    """One stream of atoms for every action: ``[B, F] -> [B, A, K]``."""

    def __init__(
        self, features: int, num_actions: int, atoms: int, hidden: Sequence[int], linear: LinearFactory
    ) -> None:
        super().__init__()
        self.body, width = rectified_stack(features, hidden, linear)
        self.out = linear(width, num_actions * atoms)
        self._shape = (num_actions, atoms)

    def forward(self, features: Tensor) -> Tensor:
        """Returns ``[B, A, K]``."""
        out: Tensor = self.out(self.body(features))
        return out.view(-1, *self._shape)


class DuelingStreams(nn.Module):
    """Value and advantages apart, ``v + a - mean(a)`` for each atom (Wang et al. 2016, equation 9)."""

    def __init__(
        self, features: int, num_actions: int, atoms: int, hidden: Sequence[int], linear: LinearFactory
    ) -> None:
        super().__init__()
        self.value = PlainStream(features, 1, atoms, hidden, linear)
        self.advantage = PlainStream(features, num_actions, atoms, hidden, linear)

    def forward(self, features: Tensor) -> Tensor:
        """Returns ``[B, A, K]``."""
        advantage: Tensor = self.advantage(features)
        value: Tensor = self.value(features)
        return dueling_values(value, advantage)


def dueling_values(value: Tensor, advantage: Tensor) -> Tensor:
    """Returns ``value [B, 1, ...]`` and ``advantage [B, A, ...]`` as one, the advantages less their mean."""
    return value + advantage - advantage.mean(1, keepdim=True)


class ScalarHead(nn.Module):
    """Expected returns from streams of one atom.

    Args:
        streams: Module ``[B, F] -> [B, A, 1]``.
    """

    def __init__(self, streams: nn.Module) -> None:
        super().__init__()
        self.streams = streams

    def forward(self, features: Tensor) -> ScalarOutput:
        """Returns the value of every action."""
        return ScalarOutput(self.streams(features).squeeze(2))


class CategoricalOptions(Options):
    """A distribution of the return over fixed atoms for each action (C51, Bellemare et al. 2017)."""

    kind: Literal["categorical"] = "categorical"
    distributional: ClassVar[bool] = True
    atoms: Annotated[PositiveCount, Field(ge=2, le=MOST_ATOMS)] = Field(51, description="Number of atoms.")
    v_min: _Return = Field(-10.0, description="Return of the lowest atom.")
    v_max: _Return = Field(10.0, description="Return of the highest atom.")
    dueling: bool = Field(False, description="Separate streams for state value and advantages.")
    hidden: Counts = Field((), description="Width of each hidden layer of a stream.")

    @model_validator(mode="after")
    def _ordered(self) -> CategoricalOptions:
        if not self.v_min < self.v_max:
            raise ValueError(f"v_min {self.v_min:g} must be below v_max {self.v_max:g}")
        if (self.v_max - self.v_min) / self.atoms < 1e-6 * max(abs(self.v_min), abs(self.v_max)):
            raise ValueError(
                f"{self.atoms} atoms from v_min {self.v_min:.9g} to v_max {self.v_max:.9g} lie too close to be told "
                "apart in float32: use fewer, or a wider range"
            )
        return self

    @property
    def pairs(self) -> int:
        """Numbers that the loss of one item compares."""
        return self.atoms**2


class CategoricalHead(nn.Module):
    """A distribution over atoms from streams of K logits.

    Args:
        streams: Module ``[B, F] -> [B, A, K]``.
        v_min: Return of the lowest atom.
        v_max: Return of the highest atom.
        atoms: K.
    """

    support: Tensor

    def __init__(self, streams: nn.Module, v_min: float, v_max: float, atoms: int) -> None:
        super().__init__()
        self.streams = streams
        self.register_buffer("support", torch.linspace(v_min, v_max, atoms), persistent=False)

    def forward(self, features: Tensor) -> CategoricalOutput:
        """Returns the distribution of every action."""
        return CategoricalOutput(self.streams(features), self.support)


class QuantileOptions(Options):
    """Quantiles of the return at fixed fractions for each action (QR-DQN, Dabney et al. 2018a)."""

    kind: Literal["quantile"] = "quantile"
    distributional: ClassVar[bool] = True
    quantiles: Annotated[PositiveCount, Field(le=MOST_ATOMS)] = Field(200, description="Number of quantiles.")
    dueling: bool = Field(False, description="Separate streams for state value and advantages.")
    hidden: Counts = Field((), description="Width of each hidden layer of a stream.")

    @property
    def pairs(self) -> int:
        """Numbers that the loss of one item compares."""
        return self.quantiles**2


class QuantileHead(nn.Module):
    """Quantiles at the midpoints of K equal parts, from streams of K values.

    Args:
        streams: Module ``[B, F] -> [B, A, K]``.
        quantiles: K.
    """

    fractions: Tensor

    def __init__(self, streams: nn.Module, quantiles: int) -> None:
        super().__init__()
        self.streams = streams
        self.register_buffer("fractions", midpoints(quantiles), persistent=False)

    def forward(self, features: Tensor) -> QuantileOutput:
        """Returns the quantiles of every action."""
        return QuantileOutput(self.streams(features), self.fractions)
