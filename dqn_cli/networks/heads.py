"""Heads: from features ``[B, F]`` to an output object. The dueling combinator serves any number of atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import Field
from torch import Tensor, nn

from dqn_cli.core.options import Counts, Options
from dqn_cli.networks.layers import LinearFactory, rectified_stack
from dqn_cli.networks.outputs import Output, ScalarOutput


class Head(Protocol):
    """A module that maps features ``[B, F]`` to an output object."""

    def __call__(self, features: Tensor) -> Output:
        """Returns the output object of a batch."""
        ...


class ScalarOptions(Options):
    """One value for each action."""

    kind: Literal["scalar"] = "scalar"
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
