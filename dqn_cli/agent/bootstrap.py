"""Bootstraps: which value of the next observation the target is built on."""

from __future__ import annotations

from typing import Literal, Protocol

from dqn_cli.core.options import Options
from dqn_cli.core.types import Batch
from dqn_cli.networks.outputs import Output, Prediction
from dqn_cli.networks.qnetwork import QNetwork


class Bootstrap(Protocol):
    """Builds the target of a batch; called without gradients."""

    def __call__(self, online: QNetwork, target: QNetwork, batch: Batch) -> Prediction:
        """Returns r + discount * (what is said of the next action), ``[B]``."""
        ...


class GreedyOptions(Options):
    """The target network chooses and evaluates the next action."""

    kind: Literal["greedy"] = "greedy"


class DoubleOptions(Options):
    """The online network chooses the next action, the target network evaluates it."""

    kind: Literal["double"] = "double"


def greedy_bootstrap(online: QNetwork, target: QNetwork, batch: Batch) -> Prediction:  # noqa: ARG001 the signature of Bootstrap
    """Returns r + discount * max_a Q_target(s', a) (Mnih et al. 2015)."""
    output: Output = target(batch.next_observation)
    return output.select(output.values().argmax(1)).backup(batch.reward, batch.discount)


def double_bootstrap(online: QNetwork, target: QNetwork, batch: Batch) -> Prediction:
    """Returns r + discount * Q_target(s', argmax_a Q_online(s', a)) (van Hasselt et al. 2016, equation 4)."""
    chosen: Output = online(batch.next_observation)
    valued: Output = target(batch.next_observation)
    action = chosen.values().argmax(1)
    return valued.select(action).backup(batch.reward, batch.discount)
