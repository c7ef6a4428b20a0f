"""N-step windows, against a brute-force oracle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.core.types import Array
from dqn_cli.experiments.audit.recorder import Recorder
from dqn_cli.replay.frames import FrameIds
from dqn_cli.replay.items import Items
from dqn_cli.replay.writer import NStepWriter
from tests.replay.streams import ENDLESS, Episode, ScriptedStream, Step, scripts


def ids(frames: Array) -> FrameIds:
    """Numbers for scripted frames ``[..., 3]``; the blank frame is 0."""
    return np.tensordot(frames.astype(np.int64), [1_000_000, 1_000, 1], 1).astype(np.int32)


def begin(writer: NStepWriter, observation, restarted=None) -> None:
    rows = slice(None) if restarted is None else restarted
    writer.begin(ids(observation[rows, -1]), restarted)


def append(writer: NStepWriter, step: Step) -> Items:
    items = writer.append(step.actions, step.reward, step.terminal, step.truncated, ids(step.successor[:, -1]))
    if step.restarted.any():
        begin(writer, step.observation, step.restarted)
    return items


@st.composite
def cases(draw):
    num_envs, stack, n_step = draw(st.sampled_from([1, 3, 8])), draw(st.sampled_from([1, 4])), draw(st.integers(1, 10))
    return stack, n_step, draw(scripts(num_envs)), draw(st.integers(1, 40))


@settings(max_examples=80)
@given(case=cases(), gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]), clip=st.sampled_from([None, 1.0, 4.5]))
def test_every_vector_step_completes_the_items_of_the_definition(case, gamma, clip):
    stack, n_step, script, steps = case
    writer = NStepWriter(len(script), stack, n_step, gamma, clip)
    stream, recorder = ScriptedStream(script, stack), Recorder(n_step, gamma, clip)
    observation = stream.reset()
    recorder.begin(observation)
    begin(writer, observation)
    for _ in range(steps):
        step = stream.step()
        recorder.append(step.actions, step)
        items = append(writer, step)
        expected = {item.action: item for item in recorder.emitted[-1]}
        assert sorted(items.action) == sorted(expected)
        for i, action in enumerate(items.action.tolist()):
            item = expected[action]
            assert items.stack[i].tolist() == ids(item.observation).tolist()
            assert items.next_stack[i].tolist() == ids(item.next_observation).tolist()
            assert items.reward[i] == pytest.approx(item.reward, rel=1e-6, abs=1e-6)
            assert items.discount[i] == pytest.approx(item.discount, rel=1e-6)
        assert [items.stack.dtype, items.next_stack.dtype, items.action.dtype] == [np.int32] * 3
        assert [items.reward.dtype, items.discount.dtype] == [np.float32] * 2


@settings(max_examples=40)
@given(case=cases(), last=st.booleans())
def test_no_transition_is_lost_doubled_or_mixed(case, last):
    """When all episodes are over, each transition has left exactly once, with frames of its own episode alone."""
    stack, n_step, script, steps = case
    writer = NStepWriter(len(script), stack, n_step, 0.5)
    stream = ScriptedStream(script, stack)
    begin(writer, stream.reset())
    left: list[int] = []
    for count in range(steps):
        step = stream.step()
        if count == steps - 1:
            ends = np.ones(len(script), np.bool_)
            step = step._replace(terminal=ends if last else step.terminal, truncated=ends & ~step.terminal)
        items = append(writer, step)
        left += items.action.tolist()
        frames = np.concatenate((items.stack, items.next_stack), axis=1)
        for row in frames:
            assert len({frame // 1_000 for frame in row.tolist() if frame}) == 1
    assert sorted(left) == list(range(steps * len(script)))


def play(
    episodes: list[Episode], rewards: Sequence[float], n_step: int, gamma: float, clip: float | None = None
) -> list[tuple[int, int, float, float]]:
    """Items of one environment with stack 1, as (time opened, time left, reward, discount)."""
    writer, stream = NStepWriter(1, 1, n_step, gamma, clip), ScriptedStream([episodes], 1)
    begin(writer, stream.reset())
    found: list[tuple[int, int, float, float]] = []
    for reward in rewards:
        items = append(writer, stream.step()._replace(reward=np.array([float(reward)])))
        opened, left = items.stack[:, 0] % 1_000, items.next_stack[:, 0] % 1_000
        found += zip(opened.tolist(), left.tolist(), items.reward.tolist(), items.discount.tolist(), strict=True)
    return sorted(found)


class TestClosedForms:
    def test_tails_have_the_discount_of_their_true_length(self):
        found = play([Episode(5, terminated=False)], [1] * 5, n_step=3, gamma=0.5)
        assert found == [
            (0, 3, 1.75, 0.125),
            (1, 4, 1.75, 0.125),
            (2, 5, 1.75, 0.125),
            (3, 5, 1.5, 0.25),
            (4, 5, 1.0, 0.5),
        ]

    def test_terminal_windows_have_discount_zero_and_keep_their_rewards(self):
        found = play([Episode(3)], [1, 1, 1], n_step=3, gamma=0.5)
        assert found == [(0, 3, 1.75, 0.0), (1, 3, 1.5, 0.0), (2, 3, 1.0, 0.0)]

    def test_a_lost_life_closes_the_windows_and_the_episode_goes_on(self):
        found = play([Episode(ENDLESS, life_lost=2)], [1] * 4, n_step=2, gamma=0.5)
        assert found == [(0, 2, 1.5, 0.0), (1, 2, 1.0, 0.0), (2, 4, 1.5, 0.25)]

    def test_the_first_stack_after_a_lost_life_reaches_back_over_it_and_after_a_game_it_does_not(self):
        for episode, expected in [
            (Episode(ENDLESS, life_lost=2), [[1, 2], [2, 3]]),
            (Episode(2), [[0, 0], [0, 1]]),
        ]:
            writer, stream = NStepWriter(1, 2, 1, 0.5), ScriptedStream([[episode]], 2)
            begin(writer, stream.reset())
            items = [append(writer, stream.step()) for _ in range(3)][-1]
            assert [(items.stack[0] % 1_000).tolist(), (items.next_stack[0] % 1_000).tolist()] == expected
            assert (items.stack[0, 0] == 0) == (episode.length == 2)

    def test_each_reward_is_clipped_not_their_sum(self):
        assert play([Episode(2)], [5, -3], n_step=2, gamma=1.0, clip=1.0) == [
            (0, 2, 0.0, 0.0),
            (1, 2, -1.0, 0.0),
        ]
        assert play([Episode(3)], [5, 5, -3], n_step=3, gamma=1.0, clip=1.0)[0][2] == 1.0

    def test_raw_rewards_are_left_alone(self):
        assert play([Episode(2)], [500, -3], n_step=2, gamma=1.0)[0][2] == 497.0
        assert play([Episode(1)], [7], n_step=3, gamma=0.9) == [(0, 1, 7.0, 0.0)]

    def test_episodes_of_one_step_leave_at_once(self):
        found = play([Episode(1, terminated=False)], [1, 2, 3], n_step=3, gamma=0.5)
        assert found == [(0, 1, 1.0, 0.5), (0, 1, 2.0, 0.5), (0, 1, 3.0, 0.5)]


@settings(max_examples=30)
@given(case=cases(), cut=st.integers(0, 20))
def test_open_windows_survive_in_the_state(case, cut):
    stack, n_step, script, steps = case
    writer, twin = (NStepWriter(len(script), stack, n_step, 0.9, 3.0) for _ in range(2))
    stream = ScriptedStream(script, stack)
    begin(writer, stream.reset())
    for _ in range(cut):
        append(writer, stream.step())
    state = writer.state_dict()
    later = [stream.step() for _ in range(steps)]
    expected = [append(writer, step) for step in later]  # before the state is loaded: it must not change with them
    twin.load_state_dict(state)
    for step, items in zip(later, expected, strict=True):
        found = append(twin, step)
        for name in Items.__slots__:
            np.testing.assert_array_equal(getattr(found, name), getattr(items, name))


def rows(items: Items) -> set[tuple[object, ...]]:
    found = {
        (items.action[i], *items.stack[i], *items.next_stack[i], items.reward[i], items.discount[i])
        for i in range(len(items))
    }
    assert len(found) == len(items)
    return found


@settings(max_examples=80)
@given(case=cases(), mask=st.integers(0, 255))
def test_an_episode_that_is_cut_later_is_one_that_was_truncated(case, mask):
    """The items of a cut are those that a truncation at the last step would have completed beside its own."""
    stack, n_step, script, steps = case
    writers = [NStepWriter(len(script), stack, n_step, 0.5) for _ in range(2)]
    stream = ScriptedStream(script, stack)
    observation = stream.reset()
    for writer in writers:
        begin(writer, observation)
    cut = np.array([bool(mask >> index & 1) for index in range(len(script))])
    for count in range(steps):
        step = stream.step()
        if count < steps - 1:
            for writer in writers:
                append(writer, step)
    never = step._replace(restarted=np.zeros_like(cut))
    later = rows(append(writers[0], step))
    if step.restarted.any():  # who has begun a new episode has no open window
        assert not rows(writers[0].cut(step.restarted))
    later |= rows(writers[0].cut(cut & ~step.restarted))
    at_once = rows(append(writers[1], never._replace(truncated=step.truncated | cut)))
    assert later == at_once
    assert not rows(writers[0].cut(cut))
