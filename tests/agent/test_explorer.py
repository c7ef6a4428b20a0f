"""Epsilon-greedy: one coin for each environment, and an epsilon that counts agent steps (trap 11)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from dqn_cli.agent.explorer import EpsilonGreedy
from dqn_cli.compose import make_environments, make_training
from dqn_cli.core.rng import stream
from dqn_cli.core.schedules import LinearSchedule
from dqn_cli.core.types import BoolArray, IntArray
from dqn_cli.hardware import resolve_hardware
from dqn_cli.schema import RunOptions
from tests.core.saving import reloaded

STEPS = 6_000


def explorer(schedule, num_envs=4, num_actions=3, seed=0) -> EpsilonGreedy:
    return EpsilonGreedy(num_envs, num_actions, schedule, stream(seed, "exploration"))


def explored(subject: EpsilonGreedy, steps: Iterable[int] = range(STEPS)) -> tuple[BoolArray, IntArray]:
    drawn = [subject.explore(step) for step in steps]
    return np.array([random for random, _ in drawn]), np.array([actions for _, actions in drawn])


class TestCoins:
    def test_each_environment_has_its_own(self):
        random, _ = explored(explorer(lambda _: 0.3))
        assert random.shape == (STEPS, 4)
        assert random.mean(0) == pytest.approx([0.3] * 4, abs=0.03)
        # How many of the four act at random is binomial; one coin for all would give none or four.
        expected = np.array([0.7**4, 4 * 0.3 * 0.7**3, 6 * 0.09 * 0.49, 4 * 0.027 * 0.7, 0.3**4])
        assert np.bincount(random.sum(1), minlength=5) / STEPS == pytest.approx(expected, abs=0.03)
        assert np.abs(np.corrcoef(random.T) - np.eye(4)).max() < 0.06

    def test_random_actions_are_uniform_in_each_environment_whatever_the_coin(self):
        random, actions = explored(explorer(lambda _: 0.5))
        for index in range(4):
            for coin in (False, True):
                chosen = actions[random[:, index] == coin, index]
                assert np.bincount(chosen, minlength=3) / len(chosen) == pytest.approx([1 / 3] * 3, abs=0.04)
        assert np.abs(np.corrcoef(actions.T) - np.eye(4)).max() < 0.06

    @pytest.mark.parametrize(("epsilon", "everywhere"), [(0.0, False), (1.0, True)])
    def test_the_ends_are_certain(self, epsilon, everywhere):
        random, _ = explored(explorer(lambda _: epsilon))
        assert (random == everywhere).all()

    def test_the_stream_does_not_depend_on_the_coins(self):
        _, never = explored(explorer(lambda _: 0.0), range(50))
        _, always = explored(explorer(lambda _: 1.0), range(50))
        assert np.array_equal(never, always)

    def test_types(self):
        random, actions = explorer(lambda _: 0.5).explore(0)
        assert random.dtype == np.bool_
        assert actions.dtype == np.int64


class TestSchedule:
    def test_coins_follow_the_schedule_at_the_step_that_is_asked(self):
        subject = explorer(LinearSchedule(1.0, 0.0, 100, 200))
        assert [subject.epsilon(step) for step in (0, 100, 200, 300)] == [1.0, 1.0, 0.5, 0.0]
        halfway, _ = explored(subject, [200] * STEPS)
        assert halfway.mean() == pytest.approx(0.5, abs=0.02)
        assert not explored(subject, [300] * 100)[0].any()


class TestState:
    def test_it_goes_on_where_it_was(self):
        original = explorer(lambda _: 0.5, num_envs=3)
        explored(original, range(7))
        restored = explorer(lambda _: 0.5, num_envs=3, seed=9)
        restored.load_state_dict(reloaded(original.state_dict()))
        for ours, theirs in zip(explored(original, range(20)), explored(restored, range(20)), strict=True):
            assert np.array_equal(ours, theirs)


def epsilon_of_run(**exploration: object) -> Callable[[int], float]:
    """Epsilon as a function of agent steps in a run with a warm-up of 1,000 steps."""
    options = RunOptions.model_validate({"device": "cpu", "exploration": exploration})
    environments = make_environments(options)
    epsilon = make_training(options, resolve_hardware(options), environments).actor.explorer.epsilon
    environments.close()
    return epsilon


class TestOfARun:
    def test_the_decay_begins_after_the_warm_up(self):
        epsilon = epsilon_of_run(start=1.0, end=0.05, decay_steps=10_000)
        values = [epsilon(step) for step in (0, 999, 1_000, 6_000, 11_000, 50_000)]
        assert values == pytest.approx([1.0, 1.0, 1.0, 0.525, 0.05, 0.05])

    def test_the_warm_up_is_uniformly_random_whatever_the_schedule_says(self):
        epsilon = epsilon_of_run(start=0.2, end=0.1, begin_steps=0, decay_steps=4_000)
        values = [epsilon(step) for step in (0, 500, 999, 1_000, 2_000, 4_000)]
        assert values == pytest.approx([1.0, 1.0, 1.0, 0.175, 0.15, 0.1])

    def test_off_after_steps(self):
        epsilon = epsilon_of_run(start=1.0, end=0.1, decay_steps=1_000, off_after_steps=5_000)
        assert [epsilon(step) for step in (4_999, 5_000, 5_001)] == pytest.approx([0.1, 0.0, 0.0])

    def test_off_after_steps_does_not_touch_the_warm_up(self):
        epsilon = epsilon_of_run(off_after_steps=0)
        assert [epsilon(step) for step in (0, 999, 1_000)] == [1.0, 1.0, 0.0]
