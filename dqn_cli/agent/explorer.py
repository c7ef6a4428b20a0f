"""Exploration: which actions are replaced by random ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
from pydantic import Field

from dqn_cli.core.options import Count, Fraction, Options
from dqn_cli.core.rng import generator_state, load_generator_state
from dqn_cli.core.stateful import State
from dqn_cli.core.types import BoolArray, IntArray


class Explorer(Protocol):
    """Decides, for each environment, whether to act at random; ``Stateful`` beside."""

    def epsilon(self, step: int) -> float:
        """Returns the probability of a random action at agent step ``step``."""
        ...

    def explore(self, step: int) -> tuple[BoolArray, IntArray]:
        """Returns which of the N environments act at random, ``[N]``, and their random actions, ``[N]``."""
        ...

    def state_dict(self) -> State:
        """Returns the whole state."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        ...


class EpsilonGreedyOptions(Options):
    """A random action with probability epsilon, which falls along a straight line."""

    kind: Literal["epsilon_greedy"] = "epsilon_greedy"
    start: Fraction = Field(1.0, description="Epsilon before the decay.")
    end: Fraction = Field(0.05, description="Epsilon after the decay.")
    begin_steps: Count | None = Field(
        None, description="Agent step at which the decay begins; null: replay.warmup_steps."
    )
    decay_steps: Count = Field(10_000, description="Agent steps that the decay takes.")
    off_after_steps: Count | None = Field(None, description="Agent step from which epsilon is 0; null: never.")


class EpsilonGreedy:
    """A coin for each environment at each step.

    Args:
        num_envs: N.
        num_actions: A.
        schedule: Epsilon as a function of agent steps over all environments.
        rng: The stream of coins and actions.
    """

    def __init__(
        self, num_envs: int, num_actions: int, schedule: Callable[[int], float], rng: np.random.Generator
    ) -> None:
        self._num_envs, self._num_actions = num_envs, num_actions
        self._schedule, self._rng = schedule, rng

    def epsilon(self, step: int) -> float:
        """Returns the probability of a random action at agent step ``step``."""
        return self._schedule(step)

    def explore(self, step: int) -> tuple[BoolArray, IntArray]:
        """Returns which environments act at random, ``[N]``, and their random actions, ``[N]``."""
        # Both are always drawn, so that the stream does not depend on the coins.
        coins = self._rng.random(self._num_envs)
        actions = self._rng.integers(self._num_actions, size=self._num_envs)
        return coins < self._schedule(step), actions

    def state_dict(self) -> State:
        """Returns the stream's state."""
        return {"rng": generator_state(self._rng)}

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        load_generator_state(self._rng, state["rng"])
