"""Bootstraps: which value of the next observation the target is built on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import Field
from torch import Tensor

from dqn_cli.core.options import Fraction, Options, PositiveFloat
from dqn_cli.core.types import Batch
from dqn_cli.networks.outputs import Output, Prediction
from dqn_cli.rules.munchausen import entropy_bonus, log_policy, munchausen_bonus
from dqn_cli.rules.rescaling import rescale, unrescale
from dqn_cli.rules.td import select_action

Backup = Callable[[Prediction, Tensor, Tensor], Prediction]
"""(what is said of the next action, reward ``[B]``, discount ``[B]``) -> target."""


Network = Callable[[Tensor], Output]
"""A Q-network, or what stands for it: observation ``[B, S, ...]`` -> output."""


class Bootstrap(Protocol):
    """Builds the target of a batch; called without gradients."""

    def __call__(self, online: Network, target: Network, batch: Batch) -> Prediction:
        """Returns r + discount * (what is said of the next action), ``[B]``."""
        ...


class GreedyOptions(Options):
    """The target network chooses and evaluates the next action."""

    kind: Literal["greedy"] = "greedy"
    adds_to_rewards: ClassVar[bool] = False
    asks_online: ClassVar[bool] = False


class DoubleOptions(Options):
    """The online network chooses the next action, the target network evaluates it."""

    kind: Literal["double"] = "double"
    adds_to_rewards: ClassVar[bool] = False
    asks_online: ClassVar[bool] = True


class MunchausenOptions(Options):
    """A softmax policy over next actions, and its log-probability of the action taken as a bonus."""

    kind: Literal["munchausen"] = "munchausen"
    adds_to_rewards: ClassVar[bool] = True
    asks_online: ClassVar[bool] = False
    alpha: Fraction = Field(0.9, description="Factor of the bonus.")
    temperature: Annotated[float, Field(ge=1e-6, le=1e6)] = Field(0.03, description="Of the softmax, tau in the paper.")
    floor: Annotated[float, Field(ge=-1e6, lt=0.0)] = Field(
        -1.0, description="Least value of tau * log policy in the bonus."
    )

    @property
    def largest_bonus(self) -> float:
        """Most that the bonus can add to the absolute value of a reward."""
        return -self.alpha * self.floor


class RescalingOptions(Options):
    """Action values are learnt on a compressed scale, h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x."""

    eps: Annotated[PositiveFloat, Field(le=1.0)] = Field(
        1.0e-3, description="Of the linear part, without which h has no stable inverse."
    )


def bellman(prediction: Prediction, reward: Tensor, discount: Tensor) -> Prediction:
    """Returns r + discount * prediction."""
    return prediction.backup(reward, discount)


def rescaled(eps: float) -> Backup:
    """Returns the backup h(r + discount * h^-1(prediction)) (Pohlen et al. 2018, section 3.2)."""

    def backup(prediction: Prediction, reward: Tensor, discount: Tensor) -> Prediction:
        returns = prediction.map(lambda value: unrescale(value, eps))
        return returns.backup(reward, discount).map(lambda value: rescale(value, eps))

    return backup


def greedy_bootstrap(
    online: Network,  # noqa: ARG001 the signature of Bootstrap
    target: Network,
    batch: Batch,
    backup: Backup = bellman,
) -> Prediction:
    """Returns r + discount * max_a Q_target(s', a) (Mnih et al. 2015)."""
    output = target(batch.next_observation)
    return backup(output.select(output.values().argmax(1)), batch.reward, batch.discount)


def double_bootstrap(online: Network, target: Network, batch: Batch, backup: Backup = bellman) -> Prediction:
    """Returns r + discount * Q_target(s', argmax_a Q_online(s', a)) (van Hasselt et al. 2016, equation 4)."""
    chosen = online(batch.next_observation)
    valued = target(batch.next_observation)
    action = chosen.values().argmax(1)
    return backup(valued.select(action), batch.reward, batch.discount)


class MunchausenBootstrap:
    """r + bonus + discount * (sum_a pi(a|s') Q(s', a) + entropy of pi), all of the target network.

    The bonus is ``alpha * clip(temperature * log pi(a|s), floor, 0)`` (Vieillard et al. 2020, equation 2 and section
    "Munchausen DQN"). It is of the first of n steps alone, as in Beyond the Rainbow.

    Args:
        alpha: Factor of the bonus.
        temperature: Of the softmax.
        floor: Least value of the clipped log-policy.
    """

    def __init__(self, alpha: float, temperature: float, floor: float) -> None:
        self._alpha, self._temperature, self._floor = alpha, temperature, floor

    def __call__(self, online: Network, target: Network, batch: Batch) -> Prediction:  # noqa: ARG002 as in `Bootstrap`
        """Returns the target of a batch."""
        here = target(batch.observation)
        there = target(batch.next_observation)
        taken = select_action(log_policy(here.values(), self._temperature), batch.action)
        next_log_policy = log_policy(there.values(), self._temperature)
        reward = batch.reward + munchausen_bonus(taken, self._alpha, self._temperature, self._floor)
        reward = reward + batch.discount * entropy_bonus(next_log_policy, self._temperature)
        return there.mix(next_log_policy.exp()).backup(reward, batch.discount)
