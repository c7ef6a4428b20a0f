"""Seeds and actions: an episode is a function of the two, so that it can be replayed without a snapshot.

A lineage is a seed and the actions taken since, possibly over several episodes that follow without seeding.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from dqn_cli.core.rng import derive_seed
from dqn_cli.core.stateful import State
from dqn_cli.core.types import Array, BoolArray, IntArray

_FIRST_ROWS = 64


class SeedPolicy(Protocol):
    """Decides at every episode boundary whether an environment is seeded anew."""

    def next_seed(self, env_index: int, episode: int, lineage_steps: int) -> int | None:
        """Returns the seed of the episode that begins, or None to continue the lineage unseeded.

        Args:
            env_index: Which of the N environments.
            episode: Number of the episode in that environment, from 0.
            lineage_steps: Steps that the running lineage has taken; 0 before the first episode, ``sys.maxsize`` where
                it must not be continued.
        """
        ...


class TrainingSeeds:
    """Seeds by (run seed, environment, episode), at the first boundary after a number of steps.

    A pure function of its arguments: nothing to save.

    Args:
        seed: Seed of the run.
        every_steps: Steps of a lineage after which the next episode is seeded anew; 0 seeds every episode.
    """

    def __init__(self, seed: int, every_steps: int) -> None:
        self._seed = seed
        self._every_steps = every_steps

    def next_seed(self, env_index: int, episode: int, lineage_steps: int) -> int | None:
        """Returns a seed in [0, 2^31), or None to continue the lineage unseeded."""
        if episode > 0 and lineage_steps < self._every_steps:
            return None
        return derive_seed(self._seed, "environment", env_index, episode)


class SeedsAgain:
    """Begins each lineage with the seed that it had: the first episode, and the one that was asked for anew.

    Args:
        seeds: Seeds of the lineages ``[N]``.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds = list(seeds)

    def next_seed(self, env_index: int, episode: int, lineage_steps: int) -> int | None:
        """Returns the lineage's seed where it begins, or None within it."""
        return self._seeds[env_index] if episode == 0 or lineage_steps == sys.maxsize else None


class EpisodeQueue:
    """A fixed list of seeded episodes, each handed out once: what an evaluation plays.

    Counting the first episodes to *finish* would favour short ones; here every listed episode is finished.

    Args:
        seeds: One seed for each episode, in [0, 2^31).
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds = [int(seed) for seed in seeds]
        self._next = 0
        self._played: dict[int, list[int]] = {}

    def next_seed(self, env_index: int, episode: int, lineage_steps: int) -> int | None:  # noqa: ARG002
        """Returns the next listed seed; when none is left the environment is idle and plays on anyhow."""
        played = self._played.setdefault(env_index, [])
        if self._next < len(self._seeds):
            played.append(self._next)
            self._next += 1
            return self._seeds[played[-1]]
        played.append(-1)
        # An idle environment must still step; seeding it again would only cost time.
        return 0 if len(played) == 1 else None

    def position(self, env_index: int, episode: int | None = None) -> int:
        """Returns the place in the list of an episode of an environment, -1 where it is idle.

        Args:
            env_index: Which of the N environments.
            episode: ``EpisodeEnd.episode``; None for the episode that runs now.
        """
        played = self._played.get(env_index, [])
        if episode is not None:
            return played[episode]
        return played[-1] if played else -1

    def state_dict(self) -> State:
        """Returns which episodes were handed out to whom."""
        return {"next": self._next, "played": {index: list(played) for index, played in self._played.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a state that ``state_dict`` returned."""
        self._next = state["next"]
        self._played = {index: list(played) for index, played in state["played"].items()}


@dataclass(frozen=True, slots=True)
class Lineage:
    """What replays one environment from its last seeding to now.

    Attributes:
        seed: The seed of the first episode.
        actions: All actions since, one byte each (two, little endian, where there are more than 256 actions).
        episode_offset: Number of those actions that were taken before the current episode began.
    """

    seed: int
    actions: bytes
    episode_offset: int


class LineageLog:
    """The running lineages of N environments.

    Args:
        num_envs: Number of environments, N.
        num_actions: Number of actions, A.
    """

    def __init__(self, num_envs: int, num_actions: int) -> None:
        # One row a vector step, so that logging is one write for all environments.
        self._rows = np.zeros((_FIRST_ROWS, num_envs), dtype="u1" if num_actions <= 256 else "<u2")
        self._used = 0
        self._seeds: list[int | None] = [None] * num_envs
        self._first = np.zeros(num_envs, dtype=np.int64)
        self._episode_first = np.zeros(num_envs, dtype=np.int64)

    @property
    def action_bytes(self) -> int:
        """Bytes of a logged action: one, or two where there are more than 256 actions."""
        return self._rows.dtype.itemsize

    def append(self, actions: IntArray) -> None:
        """Logs one action ``[N]`` of each environment."""
        if self._used == len(self._rows):
            self._make_room()
        self._rows[self._used] = actions
        self._used += 1

    def begin_episode(self, env_index: int, seed: int | None) -> None:
        """Begins an episode: a new lineage with ``seed``, or the next episode of the lineage with None.

        Raises:
            ValueError: There is no lineage to continue.
        """
        if seed is not None:
            self._seeds[env_index] = seed
            self._first[env_index] = self._used
        elif self._seeds[env_index] is None:
            raise ValueError(f"environment {env_index} was never seeded: its first episode needs a seed")
        self._episode_first[env_index] = self._used

    def steps(self, env_index: int) -> int:
        """Returns the number of steps that a lineage has taken."""
        return self._used - int(self._first[env_index])

    def seed(self, env_index: int) -> int:
        """Returns the seed of the running lineage.

        Raises:
            ValueError: The environment was never seeded.
        """
        seed = self._seeds[env_index]
        if seed is None:
            raise ValueError(f"environment {env_index} has no lineage before its first episode")
        return seed

    def episode_offset(self, env_index: int) -> int:
        """Returns the number of steps that the lineage had taken when the current episode began."""
        return int(self._episode_first[env_index] - self._first[env_index])

    def lineage(self, env_index: int) -> Lineage:
        """Returns the running lineage of an environment."""
        actions = self._since(int(self._first[env_index]), env_index).tobytes()
        return Lineage(self.seed(env_index), actions, self.episode_offset(env_index))

    def episode_actions(self, env_index: int) -> bytes:
        """Returns the actions of the current episode of an environment."""
        return self._since(int(self._episode_first[env_index]), env_index).tobytes()

    def together(self) -> Iterator[tuple[BoolArray, IntArray | None]]:
        """Yields what plays all running lineages again so that they end with the same step.

        Yields:
            Which lineages ``[N]`` begin now, and the actions ``[N]`` after that: 0 where a lineage has not begun. At
            the end, once, the lineages of no action, and None.
        """
        first = int(self._first.min())
        for row in range(first, self._used):
            begun = self._first <= row
            # Those that begin with the first row have been reset already.
            yield (self._first == row) & (row > first), np.where(begun, self._rows[row], 0).astype(np.int64)
        yield (self._first == self._used) & (self._used > first), None

    def state_dict(self) -> State:
        """Returns all running lineages."""
        columns = [self._since(int(first), index) for index, first in enumerate(self._first)]
        return {
            "seeds": list(self._seeds),
            "actions": [torch.from_numpy(column.view(np.uint8)) for column in columns],
            "episode_offsets": (self._episode_first - self._first).tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a state that ``state_dict`` returned; lineages are aligned at their last actions."""
        columns = [actions.numpy().view(self._rows.dtype) for actions in state["actions"]]
        self._used = max(len(column) for column in columns)
        self._rows = np.zeros((max(_FIRST_ROWS, self._used), len(columns)), self._rows.dtype)
        for index, column in enumerate(columns):
            self._first[index] = self._used - len(column)
            self._rows[self._first[index] : self._used, index] = column
        self._seeds = list(state["seeds"])
        self._episode_first = self._first + np.array(state["episode_offsets"], dtype=np.int64)

    def _since(self, row: int, env_index: int) -> Array:
        """Returns a copy of the actions of an environment from ``row`` on."""
        return self._rows[row : self._used, env_index].copy()

    def _make_room(self) -> None:
        """Drops the rows that no running lineage needs, and doubles the log where these are too few."""
        dropped = int(self._first.min())
        kept = self._rows[dropped : self._used]
        if 2 * len(kept) > len(self._rows):
            self._rows = np.zeros((2 * len(kept), kept.shape[1]), kept.dtype)
        self._rows[: len(kept)] = kept
        self._used = len(kept)
        self._first -= dropped
        self._episode_first -= dropped
