"""A naive record of everything that happened, and what replay must make of it: from the definition alone, no index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dqn_cli.core.types import Array, BoolArray, FloatArray, IntArray


class Step(Protocol):
    """What environments return for one vector step; see `dqn_cli.envs.contract.StepResult`."""

    @property
    def reward(self) -> FloatArray:
        """``[N]``, raw."""
        ...

    @property
    def terminal(self) -> BoolArray:
        """``[N]``, the bootstrap ends."""
        ...

    @property
    def truncated(self) -> BoolArray:
        """``[N]``, a limit cut the episode."""
        ...

    @property
    def restarted(self) -> BoolArray:
        """``[N]``, a new episode began."""
        ...

    @property
    def successor(self) -> Array:
        """``[N, S, ...]``."""
        ...

    @property
    def observation(self) -> Array:
        """``[N, S, ...]`` to act on next."""
        ...


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of one environment; ``ended`` where n-step windows close."""

    observation: Array
    action: int
    reward: float
    terminal: bool
    ended: bool
    successor: Array


@dataclass(frozen=True, slots=True)
class RecordedItem:
    """What an item must say.

    Attributes:
        env: Which of the N environments.
        steps: Number of transitions in it, k.
        observation: ``[S, ...]``.
        next_observation: ``[S, ...]``, k steps later.
        action: Taken at the observation.
        reward: Sum of gamma^i times the clipped reward i steps later.
        discount: gamma^k, or 0 when terminal.
    """

    env: int
    steps: int
    observation: Array
    next_observation: Array
    action: int
    reward: float
    discount: float


class Recorder:
    """Lists of all that was seen, one an environment.

    Args:
        n_step: n.
        gamma: Discount of one step.
        reward_clip: Each reward is clipped to [-reward_clip, reward_clip]; None for no clipping.
    """

    def __init__(self, n_step: int, gamma: float, reward_clip: float | None = None) -> None:
        self._n_step, self._gamma, self._clip = n_step, gamma, reward_clip or float("inf")
        self._observation: list[Array] = []
        self.played: list[list[Transition]] = []
        """Every transition of each environment."""
        self.frames: list[int] = []
        """Frames stored in each vector step; the reset is step 0."""
        self.emitted: list[list[RecordedItem]] = []
        """Items that each vector step completes; none at step 0."""

    @property
    def count(self) -> int:
        """Number of items completed so far."""
        return sum(map(len, self.emitted))

    def begin(self, observation: Array) -> None:
        """Starts with the first observations ``[N, S, ...]``."""
        self._observation = list(observation.copy())
        self.played = [[] for _ in observation]
        self.frames, self.emitted = [len(observation)], [[]]

    def append(self, actions: IntArray, step: Step) -> None:
        """Takes what the environments made of ``actions [N]``."""
        for env, played in enumerate(self.played):
            ended = bool(step.terminal[env] or step.truncated[env])
            successor = step.successor[env].copy()
            told = int(actions[env]), float(step.reward[env]), bool(step.terminal[env])
            played.append(Transition(self._observation[env], *told, ended, successor))
            # One copy of each observation: Atari's are 28 KB.
            self._observation[env] = step.observation[env].copy() if step.restarted[env] else successor
        self.frames.append(len(self.played) + int(step.restarted.sum()))
        self.emitted.append([item for env in range(len(self.played)) for item in self._leaving(env)])

    def _leaving(self, env: int) -> Iterator[RecordedItem]:
        played = self.played[env]
        for start in range(max(0, len(played) - self._n_step), len(played)):
            window = played[start:]
            if any(transition.ended for transition in window[:-1]):
                continue
            if window[-1].ended or len(window) == self._n_step:
                yield RecordedItem(
                    env,
                    len(window),
                    window[0].observation,
                    window[-1].successor,
                    window[0].action,
                    sum(
                        self._gamma**i * float(np.clip(transition.reward, -self._clip, self._clip))
                        for i, transition in enumerate(window)
                    ),
                    0.0 if window[-1].terminal else self._gamma ** len(window),
                )
