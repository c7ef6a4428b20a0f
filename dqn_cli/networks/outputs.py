"""Output objects: what a head says of each action, and how a Bellman backup acts on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from dqn_cli.rules.categorical import expected_value
from dqn_cli.rules.td import select_action, td_target


class Prediction(Protocol):
    """What is said of one action of each observation.

    Every kind has all of it: which combinations have an agreed meaning is the config's affair.
    """

    def mean(self) -> Tensor:
        """Returns the expected return ``[B]``."""
        ...

    def backup(self, reward: Tensor, discount: Tensor) -> Self:
        """Returns the target r + discount * self; ``reward`` and ``discount`` are ``[B]``."""
        ...

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Returns what is said of a monotone elementwise ``function`` of the return."""
        ...


class Output(Protocol):
    """What is said of every action of each observation."""

    def values(self) -> Tensor:
        """Returns expected returns ``[B, A]``."""
        ...

    def select(self, action: Tensor) -> Prediction:
        """Returns what is said of ``action [B]``."""
        ...

    def mix(self, policy: Tensor) -> Prediction:
        """Returns the sum over actions, each weighted with its probability in ``policy [B, A]``."""
        ...


@dataclass(frozen=True, slots=True)
class ScalarPrediction:
    """Expected return of one action each.

    Attributes:
        value: ``[B]``.
    """

    value: Tensor

    def mean(self) -> Tensor:
        """Returns the expected return ``[B]``."""
        return self.value

    def backup(self, reward: Tensor, discount: Tensor) -> ScalarPrediction:
        """Returns r + discount * value."""
        return ScalarPrediction(td_target(reward, discount, self.value))

    def map(self, function: Callable[[Tensor], Tensor]) -> ScalarPrediction:
        """Returns the function of the value."""
        return ScalarPrediction(function(self.value))


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

    def mix(self, policy: Tensor) -> ScalarPrediction:
        """Returns the expected value under ``policy [B, A]``."""
        return ScalarPrediction((policy * self.action_values).sum(1))


@dataclass(frozen=True, slots=True)
class CategoricalPrediction:
    """A distribution of the return over K atoms.

    Attributes:
        logits: ``[B, K]`` unnormalised log-probabilities.
        atoms: ``[B, K]`` or ``[K]``, where the probabilities lie; only a head's own are evenly spaced.
    """

    logits: Tensor
    atoms: Tensor

    def mean(self) -> Tensor:
        """Returns the expected return ``[B]``."""
        return (torch.softmax(self.logits, 1) * self.atoms).sum(1)

    def backup(self, reward: Tensor, discount: Tensor) -> CategoricalPrediction:
        """Returns the distribution whose atoms are moved to r + discount * z (Bellemare et al. 2017, equation 7)."""
        atoms = self.atoms.expand_as(self.logits)
        return replace(self, atoms=reward[:, None] + discount[:, None] * atoms)

    def map(self, function: Callable[[Tensor], Tensor]) -> CategoricalPrediction:
        """Returns the distribution on the function of its atoms."""
        return replace(self, atoms=function(self.atoms))


@dataclass(frozen=True, slots=True)
class CategoricalOutput:
    """A distribution of the return for every action, on common atoms.

    Attributes:
        logits: ``[B, A, K]``.
        support: ``[K]`` evenly spaced atoms, ascending.
    """

    logits: Tensor
    support: Tensor

    def values(self) -> Tensor:
        """Returns expected returns ``[B, A]``."""
        return expected_value(self.logits, self.support)

    def select(self, action: Tensor) -> CategoricalPrediction:
        """Returns the distribution of ``action [B]``."""
        return CategoricalPrediction(_atoms_of(self.logits, action), self.support)

    def mix(self, policy: Tensor) -> CategoricalPrediction:
        """Returns the mixture of the distributions under ``policy [B, A]``."""
        mixture = (policy[:, :, None] * torch.softmax(self.logits, 2)).sum(1)
        return CategoricalPrediction(mixture.clamp_min(torch.finfo(mixture.dtype).tiny).log(), self.support)


@dataclass(frozen=True, slots=True)
class QuantilePrediction:
    """Quantiles of the return.

    Attributes:
        quantiles: ``[B, K]``, equally likely.
        fractions: ``[B, K]`` or ``[K]``, the tau that each belongs to.
    """

    quantiles: Tensor
    fractions: Tensor

    def mean(self) -> Tensor:
        """Returns the expected return ``[B]``."""
        return self.quantiles.mean(1)

    def backup(self, reward: Tensor, discount: Tensor) -> QuantilePrediction:
        """Returns r + discount * each quantile."""
        return replace(self, quantiles=reward[:, None] + discount[:, None] * self.quantiles)

    def map(self, function: Callable[[Tensor], Tensor]) -> QuantilePrediction:
        """Returns the function of each quantile: quantiles of a monotone function are the function of quantiles."""
        return replace(self, quantiles=function(self.quantiles))


@dataclass(frozen=True, slots=True)
class QuantileOutput:
    """Quantiles of the return for every action, at fixed fractions.

    Attributes:
        quantiles: ``[B, A, K]``.
        fractions: ``[K]``.
    """

    quantiles: Tensor
    fractions: Tensor

    def values(self) -> Tensor:
        """Returns expected returns ``[B, A]``."""
        return self.quantiles.mean(2)

    def select(self, action: Tensor) -> QuantilePrediction:
        """Returns the quantiles of ``action [B]``."""
        return QuantilePrediction(_atoms_of(self.quantiles, action), self.fractions)

    def mix(self, policy: Tensor) -> QuantilePrediction:
        """Returns each quantile's expectation under ``policy [B, A]`` (Vieillard et al. 2020, Munchausen-IQN)."""
        return QuantilePrediction((policy[:, :, None] * self.quantiles).sum(1), self.fractions)


class QuantileFunction(Protocol):
    """The return's quantile function for every action, as a network has it."""

    def mean(self) -> Tensor:
        """Returns expected returns ``[B, A]``, always the same."""
        ...

    def sample(self) -> tuple[Tensor, Tensor]:
        """Returns quantiles ``[B, A, K]`` at fresh random fractions, and those ``[B, K]``."""
        ...


@dataclass(frozen=True, slots=True)
class ImplicitQuantileOutput:
    """Quantiles of the return for every action, at fractions that are drawn when they are asked for.

    Attributes:
        function: What evaluates the head at given fractions.
    """

    function: QuantileFunction

    def values(self) -> Tensor:
        """Returns expected returns ``[B, A]``, from fixed fractions."""
        return self.function.mean()

    def select(self, action: Tensor) -> QuantilePrediction:
        """Returns quantiles of ``action [B]`` at fresh random fractions."""
        quantiles, fractions = self.function.sample()
        return QuantilePrediction(_atoms_of(quantiles, action), fractions)

    def mix(self, policy: Tensor) -> QuantilePrediction:
        """Returns, at fresh random fractions, each quantile's expectation under ``policy [B, A]``."""
        quantiles, fractions = self.function.sample()
        return QuantilePrediction((policy[:, :, None] * quantiles).sum(1), fractions)


def _atoms_of(atoms: Tensor, action: Tensor) -> Tensor:
    """Returns ``atoms[b, action[b]]`` as ``[B, K]`` for atoms ``[B, A, K]``."""
    if atoms.ndim != 3 or action.shape != atoms.shape[:1]:
        raise ValueError(f"expected atoms [B, A, K] and action [B], got {tuple(atoms.shape)} and {tuple(action.shape)}")
    return torch.gather(atoms, 1, action[:, None, None].expand(-1, 1, atoms.shape[2])).squeeze(1)
