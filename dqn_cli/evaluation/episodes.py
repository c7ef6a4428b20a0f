"""Plays a fixed set of seeded episodes, all of them to the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dqn_cli.core.rng import derive_seed, stream
from dqn_cli.core.types import Array, IntArray
from dqn_cli.envs.contract import Environments
from dqn_cli.envs.lineage import EpisodeQueue


@dataclass(frozen=True, slots=True)
class PlayedEpisode:
    """One finished evaluation episode.

    Attributes:
        seed: Seed of the episode.
        score: Undiscounted sum of raw rewards.
        length: Agent steps.
        frames: Emulator frames.
        terminated: False if a limit cut the episode.
    """

    seed: int
    score: float
    length: int
    frames: int
    terminated: bool


def episode_seeds(seed: int, episodes: int, purpose: str) -> list[int]:
    """Returns the seeds of a fixed set of episodes; sets with different ``purpose`` are disjoint by design."""
    return [derive_seed(seed, purpose, episode) for episode in range(episodes)]


def play_episodes(
    environments: Environments,
    queue: EpisodeQueue,
    seeds: Sequence[int],
    greedy: Callable[[Array], IntArray],
    epsilon: float,
    stopped: Callable[[], bool],
) -> list[PlayedEpisode] | None:
    """Plays every episode of ``queue`` and returns them in the order of ``seeds``; None if it was stopped.

    The random actions of an episode come from a stream of its own: its course does not depend on the number of
    environments or on when it was started.

    Args:
        environments: N environments whose episodes are seeded by ``queue``.
        queue: Hands out ``seeds`` in order.
        seeds: Seed of each episode.
        greedy: Returns the actions of highest value ``[N]`` for observations ``[N, S, ...]``.
        epsilon: Probability of a random action.
        stopped: Is asked at every vector step whether to give up.
    """
    spec = environments.spec
    coins = [stream(seed, "evaluation actions") for seed in seeds] if epsilon > 0.0 else []
    played: dict[int, PlayedEpisode] = {}
    observation = environments.reset()
    while len(played) < len(seeds):
        if stopped():
            return None
        actions = greedy(observation)
        if epsilon > 0.0:
            positions = [queue.position(index) for index in range(spec.num_envs)]
            actions = _with_random(actions, positions, coins, epsilon, spec.num_actions)
        environments.send(actions)
        result = environments.recv()
        observation = result.observation
        for end in result.episodes:
            position = queue.position(end.env_index, end.episode)
            if position >= 0:
                played[position] = PlayedEpisode(seeds[position], end.score, end.length, end.frames, end.terminated)
    return [played[position] for position in range(len(seeds))]


def _with_random(
    actions: IntArray,
    positions: Sequence[int],
    coins: Sequence[np.random.Generator],
    epsilon: float,
    num_actions: int,
) -> IntArray:
    actions = actions.copy()
    for index, position in enumerate(positions):
        if position >= 0 and coins[position].random() < epsilon:
            actions[index] = coins[position].integers(num_actions)
    return actions
