"""A fixed set of seeded episodes, all of them finished, however many are played at once."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.core.types import Array, IntArray
from dqn_cli.envs.gymnasium import GymnasiumBackend
from dqn_cli.envs.lineage import EpisodeQueue, TrainingSeeds
from dqn_cli.envs.vector import EpisodicVector
from dqn_cli.evaluation.episodes import PlayedEpisode, episode_seeds, play_episodes
from tests.envs.hostile import env_id

Policy = Callable[[Array], IntArray]


def left(observation: Array) -> IntArray:
    return np.zeros(len(observation), dtype=np.int64)


def balance(observation: Array) -> IntArray:
    """Pushes CartPole's cart to where the pole falls: episodes of very different lengths."""
    return np.array([angle > 0 for angle in observation[:, 0, 2].tolist()], dtype=np.int64)


def play(
    name: str,
    seeds: list[int],
    num_envs: int,
    policy: Policy = left,
    epsilon: float = 0.0,
    cap: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[PlayedEpisode] | None:
    queue = EpisodeQueue(seeds)
    environments = EpisodicVector(GymnasiumBackend(name, num_envs), queue, cap, terminal_on_life_loss=False)
    try:
        return play_episodes(environments, queue, seeds, policy, epsilon, stopped)
    finally:
        environments.close()


def played(*arguments, **options) -> list[PlayedEpisode]:
    episodes = play(*arguments, **options)
    assert episodes is not None
    return episodes


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_the_number_of_environments_does_not_matter(epsilon):
    seeds = episode_seeds(0, 7, "evaluation")
    one, three, sixteen = (played("CartPole-v1", seeds, n, balance, epsilon) for n in (1, 3, 16))
    assert one == three == sixteen
    assert [episode.seed for episode in one] == seeds
    assert len({episode.score for episode in one}) > 1


def test_an_episode_is_what_its_seed_says():
    """Each score is that of a plain Gymnasium episode with that seed."""
    seeds = episode_seeds(5, 4, "evaluation")
    env = gymnasium.make("CartPole-v1")
    expected = []
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        score, ended, length = 0.0, False, 0
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(int(observation[2] > 0))
            score, length, ended = score + float(reward), length + 1, terminated or truncated
        expected.append(PlayedEpisode(seed, score, length, length, terminated))
    env.close()
    assert played("CartPole-v1", seeds, 3, balance) == expected


@settings(max_examples=20)
@given(seed=st.integers(0, 2**40), episodes=st.integers(1, 12), num_envs=st.integers(1, 9))
def test_short_episodes_are_not_favoured(seed, episodes, num_envs):
    """Episodes of 2 or of 40 steps, as their seeds decide: the first to finish would be the short ones."""
    seeds = episode_seeds(seed, episodes, "evaluation")
    lengths = [(2, 40)[int(np.random.Generator(np.random.PCG64(each)).integers(2))] for each in seeds]
    assert [episode.length for episode in played(env_id("Bimodal"), seeds, num_envs)] == lengths


def test_an_episode_that_never_ends_is_cut():
    episodes = played(env_id("NeverEnds"), [1, 2, 3], 2, cap=25)
    assert [(episode.length, episode.frames, episode.terminated) for episode in episodes] == [(25, 25, False)] * 3


def test_a_truncated_episode_did_not_terminate():
    (episode,) = played(env_id("OneState"), [1], 1)
    assert (episode.length, episode.score, episode.terminated) == (10, 10.0, False)
    (episode,) = played(env_id("LastStepReward"), [1], 1)
    assert (episode.length, episode.score, episode.terminated) == (3, 1.0, True)


def test_epsilon_is_the_share_of_random_actions():
    """In OneStepEpisodes action 1 is rewarded; the policy takes 0, so that half of the random actions score."""
    seeds = episode_seeds(0, 2_000, "evaluation")
    scores = [episode.score for episode in played(env_id("OneStepEpisodes"), seeds, 50, epsilon=0.4)]
    assert 0.17 < sum(scores) / len(scores) < 0.23
    assert all(episode.score == 0.0 for episode in played(env_id("OneStepEpisodes"), seeds[:50], 5))


def test_each_environment_has_its_own_coin():
    """One coin for all would make whole vector steps random."""
    taken = []

    class Spy(EpisodicVector):
        def send(self, actions: IntArray) -> None:
            taken.append(actions.copy())
            super().send(actions)

    seeds = episode_seeds(0, 8, "evaluation")
    queue = EpisodeQueue(seeds)
    environments = Spy(GymnasiumBackend(env_id("OneState"), 8), queue, None, terminal_on_life_loss=False)
    play_episodes(environments, queue, seeds, left, 0.5, lambda: False)
    environments.close()
    assert len(taken) == 10
    assert all(0 < actions.sum() < 8 for actions in taken[:5])


def test_it_can_be_stopped():
    asked = []

    def stopped() -> bool:
        asked.append(True)
        return len(asked) > 5

    assert play(env_id("NeverEnds"), [1, 2], 2, stopped=stopped) is None
    assert len(asked) == 6


def test_sets_are_fixed_and_disjoint():
    training = episode_seeds(0, 1_000, "training evaluation")
    final = episode_seeds(0, 1_000, "evaluation")
    assert episode_seeds(0, 1_000, "evaluation") == final
    assert episode_seeds(0, 10, "evaluation") == final[:10]
    assert not set(final) & set(training)
    assert not set(final) & set(episode_seeds(1, 1_000, "evaluation"))
    assert len(set(final)) == 1_000
    policy = TrainingSeeds(0, 0)
    of_training = {policy.next_seed(index, episode, 0) for index in range(20) for episode in range(50)}
    assert not of_training & set(final)
    assert not of_training & set(training)
