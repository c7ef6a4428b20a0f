"""Samplers: which items a batch is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.core.rng import stream
from dqn_cli.replay.samplers import UniformSampler
from tests.replay.streams import SAMPLERS, Episode, ScriptedStream, make_replay


def test_every_living_item_is_equally_likely():
    sampler = UniformSampler(stream(0, "replay"))
    sampler.extend(37, 57)
    keys, weights = sampler.sample(40_000, 0)
    counts = np.bincount(keys - 37, minlength=20)
    assert len(counts) == 20
    # Chi-square with 19 degrees of freedom: 1 in 10,000 lies above 51.
    assert ((counts - 2_000) ** 2 / 2_000).sum() < 51
    assert keys.dtype == np.int64
    assert weights.tolist() == [1.0] * 40_000


def test_the_chance_of_each_living_item():
    sampler = UniformSampler(stream(0, "replay"))
    sampler.extend(37, 57)
    assert sampler.probabilities(np.array([37, 56, 40])).tolist() == [0.05] * 3


def test_draws_are_independent_of_each_other():
    sampler = UniformSampler(stream(0, "replay"))
    sampler.extend(0, 6)
    keys, _ = sampler.sample(36_000, 0)
    pairs = np.bincount(keys[::2] * 6 + keys[1::2], minlength=36)
    # Chi-square with 35 degrees of freedom: 1 in 10,000 lies above 75.
    assert ((pairs - 500) ** 2 / 500).sum() < 75


@given(st.integers(1, 70), st.integers(1, 9), st.integers(1, 2**34), st.integers(0, 99))
def test_several_batches_are_the_same_draws_at_once_and_one_by_one(size, count, living, seed):
    together, apart = (UniformSampler(stream(seed, "replay")) for _ in range(2))
    for sampler in (together, apart):
        sampler.extend(7, 7 + living)
    keys, _ = together.sample(count * size, 0)
    assert keys.tolist() == [key for _ in range(count) for key in apart.sample(size, 0)[0].tolist()]
    assert together.state_dict() == apart.state_dict()


@pytest.mark.parametrize("kind", SAMPLERS)
def test_only_what_lives_is_drawn(kind):
    replay = make_replay(2, 4, 3, capacity=12, ring=30, sampler=kind)
    episodes = ScriptedStream([[Episode(1), Episode(7)], [Episode(4, terminated=False)]], 4)
    replay.begin(episodes.reset())
    for _ in range(3):
        replay.append(*episodes.step())
    for _ in range(60):
        replay.append(*episodes.step())
        assert set(replay.sample(200, 0).key.tolist()) == set(range(replay.items.tail, replay.items.head))


def test_the_state_is_whole():
    sampler, twin = UniformSampler(stream(0, "replay")), UniformSampler(stream(1, "replay"))
    sampler.extend(5, 90)
    sampler.sample(10, 0)
    state = sampler.state_dict()
    expected = [sampler.sample(10, 0)[0].tolist() for _ in range(3)]
    twin.load_state_dict(state)
    assert [twin.sample(10, 0)[0].tolist() for _ in range(3)] == expected


def test_priorities_mean_nothing_to_the_uniform_sampler():
    sampler, twin = (UniformSampler(stream(0, "replay")) for _ in range(2))
    for one in (sampler, twin):
        one.extend(0, 9)
    sampler.reprioritize(np.array([3]), torch.tensor([1e9]))
    assert sampler.sample(50, 0)[0].tolist() == twin.sample(50, 0)[0].tolist()
