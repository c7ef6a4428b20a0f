"""Advantage learning: a bootstrap that widens the gap between the best action and the others."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dqn_cli.agent.bootstrap import Network
from dqn_cli.core.options import Options
from dqn_cli.core.types import Batch
from dqn_cli.networks.outputs import Prediction
from dqn_cli.rules.td import select_action


class AdvantageOptions(Options):
    """The greedy target, less a part of what the action taken falls short of the best one."""

    kind: Literal["advantage"] = "advantage"
    adds_to_rewards: ClassVar[bool] = True
    asks_online: ClassVar[bool] = False
    alpha: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.9, description="Part of the gap that is taken off.")


class AdvantageBootstrap:
    """r + discount * max_a Q(s', a) - alpha * (max_a Q(s, a) - Q(s, a_taken)), all of the target network.

    The advantage learning operator (Baird 1999; Bellemare et al. 2016): optimal policies stay optimal, and errors of
    approximation turn fewer actions around. The gap is of the first of n steps.

    Args:
        alpha: Part of the gap that is taken off, below 1.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def __call__(self, online: Network, target: Network, batch: Batch) -> Prediction:  # noqa: ARG002 as in `Bootstrap`
        """Returns the target of a batch."""
        here = target(batch.observation)
        there = target(batch.next_observation)
        values = here.values()
        gap = values.amax(1) - select_action(values, batch.action)
        return there.select(there.values().argmax(1)).backup(batch.reward - self._alpha * gap, batch.discount)
