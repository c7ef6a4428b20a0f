"""Seeds of episodes, and the log of actions that replays them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.envs.lineage import EpisodeQueue, LineageLog, TrainingSeeds


def reopened(state: Any) -> Any:
    """A state as it comes back from a file in which no code may run."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class TestTrainingSeeds:
    def test_every_episode_is_seeded_where_the_interval_is_zero(self):
        seeds = TrainingSeeds(0, 0)
        drawn = [seeds.next_seed(env, episode, episode * 10) for env in range(4) for episode in range(10)]
        assert all(seed is not None and 0 <= seed < 2**31 for seed in drawn)
        assert len(set(drawn)) == 40

    def test_a_lineage_is_seeded_at_the_first_boundary_after_its_interval(self):
        seeds = TrainingSeeds(0, 5000)
        assert seeds.next_seed(0, 0, 0) is not None
        assert seeds.next_seed(0, 1, 4999) is None
        assert seeds.next_seed(0, 1, 5000) is not None

    def test_seeds_depend_on_the_run_and_on_nothing_else(self):
        assert TrainingSeeds(1, 0).next_seed(2, 3, 50) == TrainingSeeds(1, 5).next_seed(2, 3, 99)
        assert TrainingSeeds(1, 0).next_seed(2, 3, 50) != TrainingSeeds(2, 0).next_seed(2, 3, 50)


class TestEpisodeQueue:
    def test_each_seed_is_handed_out_once_and_remembered(self):
        queue = EpisodeQueue([11, 12, 13])
        assert [queue.next_seed(env, 0, 0) for env in (0, 1)] == [11, 12]
        assert queue.next_seed(1, 1, 9) == 13
        assert [queue.position(0), queue.position(1)] == [0, 2]
        assert queue.position(1, 0) == 1

    def test_an_environment_without_an_episode_is_idle_and_is_seeded_only_if_it_never_was(self):
        queue = EpisodeQueue([11])
        assert queue.position(0) == -1
        queue.next_seed(0, 0, 0)
        assert queue.next_seed(1, 0, 0) is not None
        assert queue.next_seed(0, 1, 5) is None
        assert [queue.position(0), queue.position(1)] == [-1, -1]
        assert queue.position(0, 0) == 0

    def test_the_state_is_whole(self):
        queue = EpisodeQueue([11, 12, 13])
        for env, episode in ((0, 0), (1, 0), (0, 1)):
            queue.next_seed(env, episode, 0)
        twin = EpisodeQueue([11, 12, 13])
        twin.load_state_dict(reopened(queue.state_dict()))
        for either in (queue, twin):
            assert either.next_seed(1, 1, 7) is None
            assert [either.position(0), either.position(0, 0), either.position(1)] == [2, 0, -1]


class NaiveLog:
    """What a lineage log means: a list an environment."""

    def __init__(self, num_envs: int) -> None:
        self.seeds = [-1] * num_envs
        self.actions: list[list[int]] = [[] for _ in range(num_envs)]
        self.offsets = [0] * num_envs

    def append(self, actions: list[int]) -> None:
        for log, action in zip(self.actions, actions, strict=True):
            log.append(action)

    def begin_episode(self, env: int, seed: int | None) -> None:
        if seed is not None:
            self.seeds[env], self.actions[env] = seed, []
        self.offsets[env] = len(self.actions[env])


@settings(max_examples=40, deadline=None)
@given(
    num_actions=st.sampled_from([2, 256, 257, 60_000]),
    run=st.lists(
        st.tuples(
            st.integers(0, 100),
            st.lists(st.tuples(st.sampled_from([(0,), (1,), (2,), (0, 1, 2)]), st.none() | st.integers(0, 99))),
        ),
        max_size=6,
    ),
    draw_seed=st.integers(0, 2**32 - 1),
)
def test_log_equals_lists_of_actions(num_actions, run, draw_seed):
    rng = np.random.default_rng(draw_seed)
    log, naive = LineageLog(3, num_actions), NaiveLog(3)
    for env in range(3):
        log.begin_episode(env, env)
        naive.begin_episode(env, env)
    for steps, begun in run:
        for actions in rng.integers(0, num_actions, (steps, 3)):
            log.append(actions)
            naive.append(actions.tolist())
        for begin, seed in begun:
            for env in begin:
                log.begin_episode(env, seed)
                naive.begin_episode(env, seed)
        twin = LineageLog(3, num_actions)
        twin.load_state_dict(reopened(log.state_dict()))
        dtype = "u1" if num_actions <= 256 else "<u2"
        for either in (log, twin):
            for env in range(3):
                lineage = either.lineage(env)
                assert (lineage.seed, lineage.episode_offset) == (naive.seeds[env], naive.offsets[env])
                assert np.frombuffer(lineage.actions, dtype).tolist() == naive.actions[env]
                assert either.steps(env) == len(naive.actions[env])
                episode = np.frombuffer(either.episode_actions(env), dtype).tolist()
                assert episode == naive.actions[env][naive.offsets[env] :]
        log = twin if steps % 2 else log


def test_the_state_of_a_log_does_not_change_with_the_log():
    log = LineageLog(1, 4)
    log.begin_episode(0, 7)
    log.append(np.array([3]))
    state = log.state_dict()
    log.append(np.array([2]))
    assert state["actions"][0].tolist() == [3]


def test_log_of_short_lineages_does_not_grow():
    log = LineageLog(2, 4)
    for step in range(20_000):
        if step % 50 == 0:
            log.begin_episode(step // 50 % 2, step)
        if step == 0:
            log.begin_episode(1, 0)
        log.append(np.array([step % 4, 0]))
    assert log._rows.nbytes <= 2 * 1024


def test_the_first_episode_needs_a_seed():
    log = LineageLog(2, 4)
    with pytest.raises(ValueError, match="environment 1 was never seeded"):
        log.begin_episode(1, None)
