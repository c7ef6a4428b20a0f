"""Output objects: what a head says of each action, and how a Bellman backup acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor

from dqn_cli.rules.td import select_action, td_target


class Prediction(Protocol):
    """What is said of one action of each observation."""

    def backup(self, reward: Tensor, discount: Tensor) -> Self:
        """Returns the target r + discount * self; ``reward`` and ``discount`` are ``[B]``."""
        ...


class Output(Protocol):
    """What is said of every action of each observation."""

    def values(self) -> Tensor:
        """Returns expected returns ``[B, A]``."""
        ...

    def select(self, action: Tensor) -> Prediction:
        """Returns what is said of ``action [B]``."""
        ...


@dataclass(frozen=True, slots=True)
class ScalarPrediction:
    """Expected return of one action each.

    Attributes:
        value: ``[B]``.
    """

    value: Tensor

    def backup(self, reward: Tensor, discount: Tensor) -> ScalarPrediction:
        """Returns r + discount * value."""
        return ScalarPrediction(td_target(reward, discount, self.value))


@dataclass(frozen=True, slots=True)
class ScalarOutput:
    """Expected return of every action.

    Attributes:
        action_values: ``[B, A]``.
    """

    action_values: Tensor

    def values(self) -> Tensor:
        """Returns expected returns ``[B, A]``."""
        return self.action_values

    def select(self, action: Tensor) -> ScalarPrediction:
        """Returns the value of ``action [B]``."""
        return ScalarPrediction(select_action(self.action_values, action))
