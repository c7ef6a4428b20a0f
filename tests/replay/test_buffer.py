"""The replay as a whole: tiny rings that wrap many times, against a naive record of everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.experiments.audit.recorder import Recorder
from dqn_cli.replay.buffer import Replay, least_budget, ring_frames
from tests.replay.streams import (
    ENDLESS,
    SAMPLERS,
    Episode,
    ScriptedStream,
    assert_draws_what_lives,
    assert_holds_what_happened,
    contents,
    make_replay,
    scripts,
)


@st.composite
def cases(draw):
    num_envs, stack = draw(st.sampled_from([1, 3, 8])), draw(st.sampled_from([1, 4]))
    n_step = draw(st.sampled_from([1, 3, 10]))
    ring = draw(st.integers(num_envs, 5 * num_envs * (n_step + stack)))
    capacity = draw(st.integers(1, 2 * ring))
    return draw(scripts(num_envs)), stack, n_step, capacity, ring


def expected_tail(recorder: Recorder, history: int, ring: int, capacity: int) -> int:
    """Returns the first key that must live: all frames since ``history`` steps before it left are still there."""
    tail = recorder.count
    for step in range(len(recorder.emitted) - 1, -1, -1):
        if sum(recorder.frames[max(0, step - history) :]) > ring:
            break
        tail -= len(recorder.emitted[step])
    return max(tail, recorder.count - capacity)


@settings(max_examples=40)
@given(case=cases(), sampler=st.sampled_from(SAMPLERS))
def test_living_items_decode_to_what_happened_and_live_as_long_as_their_frames(case, sampler):
    script, stack, n_step, capacity, ring = case
    replay = make_replay(len(script), stack, n_step, capacity, ring, sampler=sampler)
    stream, recorder = ScriptedStream(script, stack), Recorder(n_step, 0.5)
    observation = stream.reset()
    recorder.begin(observation)
    replay.begin(observation)
    tail = 0
    for count in range(min(90, 20 + 5 * ring // len(script))):
        step = stream.step()
        recorder.append(step.actions, step)
        replay.append(*step)
        assert_holds_what_happened(replay, recorder)
        assert len(replay) == replay.items.head - replay.items.tail <= capacity
        assert replay.items.tail == expected_tail(recorder, n_step + stack - 1, ring, capacity)
        assert replay.items.tail >= tail
        tail = replay.items.tail
        assert_draws_what_lives(replay, count)


@settings(max_examples=40)
@given(case=cases(), sampler=st.sampled_from(SAMPLERS), budget=st.integers(28, 3_000))
def test_compressed_frames_that_leave_sooner_take_their_items_along(case, sampler, budget):
    """However small the budget is: what lives says what happened, and nothing else is drawn."""
    script, stack, n_step, capacity, ring = case
    replay = make_replay(len(script), stack, n_step, capacity, ring, sampler=sampler, budget=budget)
    stream, recorder = ScriptedStream(script, stack), Recorder(n_step, 0.5)
    observation = stream.reset()
    recorder.begin(observation)
    replay.begin(observation)
    for count in range(min(90, 20 + 5 * ring // len(script))):
        step = stream.step()
        recorder.append(step.actions, step)
        replay.append(*step)
        assert_holds_what_happened(replay, recorder)
        assert replay.items.tail >= expected_tail(recorder, n_step + stack - 1, ring, capacity)
        alive = replay.frames.written - replay.frames.oldest + 1
        assert replay.items.tail == expected_tail(recorder, n_step + stack - 1, alive, capacity)
        if len(replay):
            assert_draws_what_lives(replay, count)


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("n_step", [1, 3])
def test_the_least_budget_leaves_an_item_of_frames_that_do_not_pack(num_envs, n_step):
    stack, frame_bytes = 1, 12
    history = n_step + stack - 1
    budget = least_budget(num_envs, history, frame_bytes)
    replay = make_replay(num_envs, stack, n_step, 500, 1_000, budget=budget)
    stream = ScriptedStream([[*[Episode(1)] * 30, Episode(ENDLESS)]] * num_envs, stack)
    replay.begin(stream.reset())
    for _ in range(60):
        replay.append(*stream.step())
        assert len(replay) > 0


@pytest.mark.parametrize(("num_envs", "n_step"), [(1, 1), (1, 10), (3, 3), (8, 1), (8, 3)])
def test_a_ring_of_the_planned_size_wraps_many_times_and_keeps_nearly_all_items(num_envs, n_step):
    """Episodes of Atari length and the slack of large frames: the table is full, and stays so."""
    capacity, stack = 600, 4
    ring = ring_frames(capacity, num_envs, n_step + stack - 1, 84 * 84)
    assert ring < 1.5 * capacity
    replay = make_replay(num_envs, stack, n_step, capacity, ring)
    script = [[Episode(100 + 7 * env, terminated=env % 2 == 0, life_lost=30)] for env in range(num_envs)]
    stream, recorder = ScriptedStream(script, stack), Recorder(n_step, 0.5)
    observation = stream.reset()
    recorder.begin(observation)
    replay.begin(observation)
    steps = 4 * ring // num_envs
    for count in range(steps):
        step = stream.step()
        recorder.append(step.actions, step)
        replay.append(*step)
        if count > steps // 2:
            assert len(replay) >= 0.97 * capacity
        if count % 97 == 0:
            assert_holds_what_happened(replay, recorder)
    assert replay.frames.written > 4 * ring


@pytest.mark.parametrize("length", [1, 2, 5])
def test_small_frames_have_room_for_the_shortest_episodes(length):
    """The ring's slack is as large as the table where frames are small."""
    ring = ring_frames(100, 2, 3, 16)
    replay = make_replay(2, 1, 3, 100, ring)
    stream = ScriptedStream([[Episode(length)]] * 2, 1)
    replay.begin(stream.reset())
    sizes = []
    for _ in range(300):
        replay.append(*stream.step())
        sizes.append(len(replay))
    assert min(sizes[60:]) == 100


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("n_step", [1, 3, 10])
def test_the_planned_size_is_enough_for_a_long_episode_after_the_shortest(num_envs, n_step):
    """Where frames are large, for the smallest table that a config may ask for."""
    ring = ring_frames(n_step * num_envs, num_envs, n_step, 84 * 84)
    replay = make_replay(num_envs, 1, n_step, n_step * num_envs, ring)
    stream = ScriptedStream([[*[Episode(1)] * 30, Episode(ENDLESS)]] * num_envs, 1)
    replay.begin(stream.reset())
    for _ in range(60):
        replay.append(*stream.step())
        assert len(replay) > 0


@st.composite
def smallest_tables(draw):
    """The smallest tables that a config may ask for: one window of each environment."""
    num_envs, stack = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 4]))
    n_step = draw(st.sampled_from([1, 3, 10]))
    # One long episode after many short ones is the worst case: the short ones need two frames a step.
    short = draw(st.integers(0, 2 * (n_step + stack)))
    script = [[*[Episode(1)] * short, *own] for own in draw(scripts(num_envs))]
    return script, stack, n_step, draw(st.sampled_from([4, 84 * 84]))


@settings(max_examples=30)
@given(case=smallest_tables(), sampler=st.sampled_from(SAMPLERS))
def test_a_ring_of_the_planned_size_never_leaves_the_table_empty(case, sampler):
    script, stack, n_step, frame_bytes = case
    num_envs = len(script)
    capacity = n_step * num_envs
    ring = ring_frames(capacity, num_envs, n_step + stack - 1, frame_bytes)
    replay = make_replay(num_envs, stack, n_step, capacity, ring, sampler=sampler)
    stream = ScriptedStream(script, stack)
    replay.begin(stream.reset())
    for count in range(1, 80):
        replay.append(*stream.step())
        if count >= n_step:
            assert len(replay) > 0
        assert_draws_what_lives(replay, count)


def filled() -> Replay:
    replay = make_replay(2, 4, 3, capacity=50, ring=100)
    stream = ScriptedStream([[Episode(5), Episode(3, terminated=False)], [Episode(ENDLESS)]], 4)
    replay.begin(stream.reset())
    for _ in range(100):
        replay.append(*stream.step())
    return replay


class TestSample:
    def test_an_empty_replay_has_nothing_to_sample(self):
        replay = make_replay(1, 1, 3, 10, 20)
        stream = ScriptedStream([[Episode(ENDLESS)]], 1)
        replay.begin(stream.reset())
        for _ in range(3):
            with pytest.raises(ValueError, match="no item yet"):
                replay.sample(1, 0)
            replay.append(*stream.step())
        assert replay.sample(1, 0).key.tolist() == [0]

    def test_a_batch_is_made_of_the_items_that_its_keys_name(self):
        replay = filled()
        living = contents(replay)
        batch = replay.sample(64, 0)
        assert batch.observation.shape == batch.next_observation.shape == (64, 4, 3)
        for i, key in enumerate(batch.key.tolist()):
            both = batch.observation[i].numpy().tobytes(), batch.next_observation[i].numpy().tobytes()
            told = int(batch.action[i]), float(batch.reward[i]), float(batch.discount[i])
            assert (*both, *told) == living[key - replay.items.tail]

    def test_dtypes_and_weights(self):
        replay = filled()
        batch = replay.sample(5, 0)
        assert batch.observation.dtype == batch.next_observation.dtype == torch.int32
        assert [batch.action.dtype, batch.reward.dtype, batch.discount.dtype] == [
            torch.int64,
            torch.float32,
            torch.float32,
        ]
        assert batch.key.dtype == np.int64
        assert batch.weight.dtype == torch.float32
        assert batch.weight.tolist() == [1.0] * 5
        replay.reprioritize(batch.key, torch.ones(5))

    def test_batches_are_not_touched_by_what_comes_later(self):
        replay = filled()
        batch = replay.sample(20, 0)
        observation, action = batch.observation.clone(), batch.action.clone()
        stream = ScriptedStream([[Episode(3)]] * 2, 4)
        for _ in range(100):
            replay.append(*stream.step())
        assert torch.equal(batch.observation, observation)
        assert torch.equal(batch.action, action)
