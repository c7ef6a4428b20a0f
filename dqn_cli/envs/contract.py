"""The one contract that every kind of environment fulfils.

There is no hidden autoreset: `VectorBackend` only steps, and resets what it is told to; `EpisodicVector` (in
``vector.py``) turns a backend into the stream of `StepResult` that the loop reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dqn_cli.core.types import Array, BoolArray, FloatArray, IntArray, ObservationSpec


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What the rest of the program knows of an environment.

    Attributes:
        name: Gymnasium id or Atari game, for people.
        num_envs: Number of environments that step together, N.
        observation: One frame and the stack of an observation.
        num_actions: Number of actions, A; the program's actions are 0 to A-1 whatever the space's start.
        frames_per_step: Emulator frames in one agent step.
        seed_every_steps: A lineage is seeded anew at the first episode boundary after this many steps; 0 seeds
            every episode.
        atari_game: Canonical game name for human-normalised scores, or None.
    """

    name: str
    num_envs: int
    observation: ObservationSpec
    num_actions: int
    frames_per_step: int = 1
    seed_every_steps: int = 0
    atari_game: str | None = None


@dataclass(frozen=True, slots=True)
class BackendStep:
    """What a backend returns for one action in each of N environments.

    Attributes:
        observation: ``[N, S, ...]`` the true successor of each action, also where an episode ended.
        reward: ``[N]`` float64, raw.
        terminated: ``[N]`` the episode ended in the environment's own terms.
        truncated: ``[N]`` the episode was cut by a limit.
        lives: ``[N]`` lives left, or None where there is no such thing.
    """

    observation: Array
    reward: FloatArray
    terminated: BoolArray
    truncated: BoolArray
    lives: IntArray | None


@dataclass(frozen=True, slots=True)
class BackendReset:
    """Observations after a reset by mask.

    Attributes:
        observation: ``[N, S, ...]``; rows outside the mask are the current observations or anything.
        lives: ``[N]`` lives, or None.
        frames: ``[N]`` emulator frames that the reset itself consumed (no-op start), or None.
    """

    observation: Array
    lives: IntArray | None
    frames: IntArray | None


class VectorBackend(Protocol):
    """N environments of one kind that step together and never reset by themselves.

    Where one of them fails, ``reset``, ``send`` and ``recv`` raise ``BrokenEnvironmentError`` with its index; after
    that nothing is expected of the backend but ``close``.
    """

    @property
    def spec(self) -> EnvironmentSpec:
        """The environments' description."""
        ...

    def reset(self, mask: BoolArray, seeds: Sequence[int | None]) -> BackendReset:
        """Resets the environments in ``mask [N]``; ``seeds [N]`` holds one seed or None for each of N."""
        ...

    def send(self, actions: IntArray) -> None:
        """Starts a step with ``actions [N]`` in 0 to A-1; the caller has checked the range."""
        ...

    def recv(self) -> BackendStep:
        """Waits for the step that ``send`` started."""
        ...

    def close(self) -> None:
        """Frees workers and emulators; may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class EpisodeEnd:
    """A finished episode.

    Attributes:
        env_index: Which of the N environments.
        episode: Number of the episode in that environment, from 0.
        seed: Seed of the lineage to which the episode belongs.
        lineage_steps: Steps that the lineage had taken when this episode began.
        score: Undiscounted sum of raw rewards over the whole game.
        length: Agent steps.
        frames: Emulator frames, the no-op start included.
        terminated: False if a limit cut the episode.
        actions: One byte for each action (two where there are more than 256 actions).
    """

    env_index: int
    episode: int
    seed: int
    lineage_steps: int
    score: float
    length: int
    frames: int
    terminated: bool
    actions: bytes


@dataclass(frozen=True, slots=True)
class StepResult:
    """One vector step, as replay and telemetry see it.

    Attributes:
        observation: ``[N, S, ...]`` to act on next; the first of a new episode where one ended.
        successor: ``[N, S, ...]`` the true successor of each action; shares memory with ``observation`` where no
            episode ended.
        reward: ``[N]`` float64, raw.
        terminal: ``[N]`` the bootstrap ends here: termination, or a lost life where the config says so.
        truncated: ``[N]`` a limit cut the episode; the successor still has a value.
        restarted: ``[N]`` the episode is over and ``observation`` begins a new one.
        episodes: The episodes that ended.
    """

    observation: Array
    successor: Array
    reward: FloatArray
    terminal: BoolArray
    truncated: BoolArray
    restarted: BoolArray
    episodes: tuple[EpisodeEnd, ...]


class Environments(Protocol):
    """What the training loop and the evaluation use."""

    @property
    def spec(self) -> EnvironmentSpec:
        """The environments' description."""
        ...

    @property
    def observation(self) -> Array:
        """Observations ``[N, S, ...]`` to act on next."""
        ...

    def reset(self) -> Array:
        """Starts an episode in every environment and returns observations ``[N, S, ...]``."""
        ...

    def abandon(self) -> None:
        """Takes back a step that was sent; the state is that before it, and only ``close`` may follow."""
        ...

    def send(self, actions: IntArray) -> None:
        """Starts a step with ``actions [N]``; an action out of range raises ``ValueError`` at once."""
        ...

    def recv(self) -> StepResult:
        """Waits for the step, begins new episodes where one ended, and returns both sides."""
        ...

    def close(self) -> None:
        """Frees workers and emulators; may be called twice."""
        ...


def check_actions(actions: IntArray, spec: EnvironmentSpec) -> None:
    """Raises ``ValueError`` unless ``actions`` are ``[N]`` int64 in 0 to A-1."""
    if not isinstance(actions, np.ndarray) or actions.dtype != np.int64:
        raise ValueError(f"actions must be an int64 array, got {getattr(actions, 'dtype', type(actions))}")
    if actions.shape != (spec.num_envs,):
        raise ValueError(f"actions must have shape ({spec.num_envs},), got {actions.shape}")
    # One reduction for both ends of the range: a negative number is a huge unsigned one.
    if actions.view(np.uint64).max() >= spec.num_actions:
        raise ValueError(f"actions must be in 0 to {spec.num_actions - 1}, got {actions.tolist()}")
