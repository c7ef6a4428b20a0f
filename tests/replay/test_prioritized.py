"""Prioritized replay (trap 15), against the formulas of the paper and a dictionary of priorities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dqn_cli.compose import make_environments, make_training
from dqn_cli.core.errors import RunError, UsageError
from dqn_cli.core.rng import stream
from dqn_cli.core.schedules import LinearSchedule
from dqn_cli.core.types import FloatArray, Keys
from dqn_cli.hardware import resolve_hardware
from dqn_cli.replay.prioritized import PrioritizedOptions, PrioritizedSampler
from dqn_cli.schema import RunOptions
from tests.core.saving import reloaded
from tests.replay.streams import Episode, ScriptedStream, make_replay


def make(
    capacity: int = 8,
    alpha: float = 0.7,
    beta: Callable[[int], float] = lambda _: 0.5,
    eps: float = 0.01,
    seed: int = 0,
) -> PrioritizedSampler:
    return PrioritizedSampler(capacity, alpha, beta, eps, stream(seed, "replay"))


def holding(errors: list[float], first: int = 0, **options: Any) -> PrioritizedSampler:
    """A sampler whose living keys, from ``first`` on, have the given |delta|."""
    sampler = make(**({"capacity": len(errors)} | options))
    sampler.extend(first, first + len(errors))
    sampler.reprioritize(np.arange(first, first + len(errors)), torch.tensor(errors, dtype=torch.float64))
    return sampler


def chances(errors: list[float], alpha: float = 0.7, eps: float = 0.01) -> FloatArray:
    """P(i), written down once more."""
    powers: FloatArray = np.array([(error + eps) ** alpha for error in errors])
    return powers / math.fsum(powers)


def set_errors(sampler: PrioritizedSampler, errors: dict[int, float]) -> None:
    sampler.reprioritize(np.array(list(errors)), torch.tensor(list(errors.values())))


ERRORS = [0.0, 0.1, 0.5, 1.0, 2.0, 0.03, 7.0]


class TestOptions:
    def test_defaults(self):
        options = PrioritizedOptions()
        assert (options.alpha, options.eps) == (0.5, 1e-6)
        assert (options.beta.start, options.beta.end, options.beta.over_steps) == (0.4, 1.0, None)

    @pytest.mark.parametrize(
        "options",
        [{"alpha": 1.5}, {"alpha": -0.1}, {"eps": 0.0}, {"beta": {"start": 1.1}}, {"beta": {"over_steps": 0}}],
    )
    def test_values_without_a_meaning_are_refused(self, options):
        with pytest.raises(ValidationError):
            PrioritizedOptions.model_validate(options)


class TestChances:
    @pytest.mark.parametrize("alpha", [0.0, 0.5, 0.7, 1.0])
    def test_they_are_those_of_the_formula(self, alpha):
        """With an eps that is large enough to be seen, and to be seen once."""
        sampler = holding(ERRORS, 37, alpha=alpha, eps=0.3)
        keys = np.array([43, 37, 38, 39, 40, 41, 42])
        expected = np.roll(chances(ERRORS, alpha, 0.3), 1)
        np.testing.assert_allclose(sampler.probabilities(keys), expected, rtol=1e-12)

    def test_single_draws_come_that_often(self):
        sampler = holding(ERRORS, 37)
        draws = [int(sampler.sample(1, 0)[0][0]) for _ in range(6_000)]
        expected = 6_000 * chances(ERRORS)
        counts = np.bincount(np.array(draws) - 37, minlength=7)
        assert len(counts) == 7
        # Chi-square with 6 degrees of freedom: 1 in 10,000 lies above 28.
        assert ((counts - expected) ** 2 / expected).sum() < 28

    def test_each_draw_of_a_batch_comes_from_its_own_slice(self):
        """An item with a share of 2.4 slices is drawn 1 to 4 times, and 2.4 times in the mean."""
        sampler, share = holding(ERRORS), 16 * chances(ERRORS)
        ends = share.cumsum()
        total = np.zeros(7)
        for _ in range(500):
            keys, _ = sampler.sample(16, 0)
            assert (ends[keys] > np.arange(16)).all()
            assert (ends[keys] - share[keys] < np.arange(1, 17)).all()
            total += np.bincount(keys, minlength=7)
        # Only the slices at the two ends of a share are left to chance, each with a variance of at most 1/4.
        assert (np.abs(total / 500 - share) < 5 * math.sqrt(0.5 / 500)).all()

    def test_each_draw_has_a_place_of_its_own_in_its_slice(self):
        keys, _ = holding([1.0] * 400).sample(8, 0)
        assert len(set((keys % 50).tolist())) > 4

    def test_draws_change_from_batch_to_batch_and_with_the_stream(self):
        sampler, twin, other = (holding([1.0] * 200, seed=seed) for seed in (0, 0, 1))
        batches = [one.sample(32, 0)[0].tolist() for one in (sampler, sampler, twin, other)]
        assert batches[0] == batches[2]
        assert batches[0] not in (batches[1], batches[3])


class TestWeights:
    @pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
    def test_they_are_those_of_the_formula(self, beta):
        sampler = holding(ERRORS, 37, capacity=50, beta=lambda _: beta)
        for _ in range(20):
            keys, weights = sampler.sample(4, 0)
            raw = (7 * chances(ERRORS)[keys - 37]) ** -beta
            np.testing.assert_allclose(weights, raw / raw.max(), rtol=1e-12)
            assert weights.max() == 1.0

    def test_beta_goes_by_the_agent_step(self):
        sampler = holding([0.0, 3.0], beta=LinearSchedule(0.4, 1.0, 0, 1_000))
        ratio = chances([0.0, 3.0])[0] / chances([0.0, 3.0])[1]
        for step, beta in ((0, 0.4), (250, 0.55), (1_000, 1.0), (5_000, 1.0)):
            _, weights = sampler.sample(200, step)
            assert weights.min() == pytest.approx(ratio**beta)


class TestNewItems:
    def test_they_get_the_largest_priority_seen(self):
        sampler = make(alpha=0.5, eps=0.25)
        sampler.extend(0, 2)
        np.testing.assert_allclose(sampler.probabilities(np.arange(2)), 0.5)
        set_errors(sampler, {0: 3.75, 1: 0.0})  # p = 4 and 0.25
        sampler.extend(0, 3)
        np.testing.assert_allclose(sampler.probabilities(np.arange(3)), np.array([2.0, 0.5, 2.0]) / 4.5)

    def test_it_starts_at_one_and_does_not_fall(self):
        sampler = make(alpha=1.0, eps=0.25)
        sampler.extend(0, 1)
        set_errors(sampler, {0: 0.25})  # p = 0.5
        sampler.extend(0, 2)
        np.testing.assert_allclose(sampler.probabilities(np.arange(2)), [1 / 3, 2 / 3])
        set_errors(sampler, {0: 7.75})
        set_errors(sampler, {0: 0.0, 1: 1.75})
        sampler.extend(1, 3)  # the one that had 8 is gone, too
        np.testing.assert_allclose(sampler.probabilities(np.arange(1, 3)), [0.2, 0.8])

    def test_priorities_that_come_too_late_count_for_it(self):
        sampler = make(alpha=1.0, eps=0.25)
        sampler.extend(4, 5)
        set_errors(sampler, {3: 3.75})
        sampler.extend(4, 6)
        np.testing.assert_allclose(sampler.probabilities(np.arange(4, 6)), [0.2, 0.8])


class TestReprioritize:
    def test_keys_that_have_left_are_ignored(self):
        sampler = holding(ERRORS, 10)
        before = sampler.probabilities(np.arange(10, 17))
        set_errors(sampler, {9: 5.0, 3: 5.0, 17: 5.0})  # their leaves belong to 16, 10 and 10
        assert sampler.probabilities(np.arange(10, 17)).tolist() == before.tolist()
        sampler.extend(12, 17)
        set_errors(sampler, {10: 5.0, 11: 0.5})
        drawn = {int(key) for _ in range(50) for key in sampler.sample(32, 0)[0]}
        assert drawn == set(range(12, 17))

    def test_of_several_for_one_key_the_last_wins(self):
        sampler = holding([1.0, 1.0, 1.0])
        sampler.reprioritize(np.array([1, 0, 1, 1]), torch.tensor([9.0, 2.0, 8.0, 0.5]))
        np.testing.assert_allclose(sampler.probabilities(np.arange(3)), chances([2.0, 0.5, 1.0]), rtol=1e-7)

    def test_it_takes_what_a_learner_returns(self):
        sampler = holding([1.0, 1.0])
        sampler.reprioritize(np.array([0]), torch.tensor([3.0], requires_grad=True))
        np.testing.assert_allclose(sampler.probabilities(np.arange(2)), chances([3.0, 1.0]), rtol=1e-7)

    @pytest.mark.parametrize(("value", "said"), [(math.nan, "nan"), (math.inf, "inf"), (-0.5, "-0.5")])
    def test_what_is_no_error_ends_the_run_with_one_line(self, value, said):
        sampler = holding(ERRORS)
        before = str(sampler.state_dict())
        with pytest.raises(RunError) as caught:
            set_errors(sampler, {0: 1.0, 1: value})
        message = str(caught.value)
        assert message.startswith("training has diverged")
        assert f" {said}," in message
        assert "learning.optimizer.lr" in message
        assert "learning.max_grad_norm" in message
        assert "\n" not in message
        assert str(sampler.state_dict()) == before


class TestExtend:
    @settings(max_examples=60)
    @given(data=st.data(), capacity=st.integers(1, 40), alpha=st.sampled_from([0.0, 0.6, 1.0]))
    def test_exactly_the_living_keys_have_a_priority_and_each_its_own(self, data, capacity, alpha):
        """A ring that wraps many times, in jumps that may be longer than itself, with updates that may be late."""
        sampler = make(capacity, alpha)
        living: dict[int, float] = {}
        largest = 1.0
        tail = head = 0
        for _ in range(data.draw(st.integers(1, 12))):
            head += data.draw(st.integers(0, 2 * capacity))
            tail = data.draw(st.integers(max(tail, head - capacity), head))
            sampler.extend(tail, head)
            living = {key: living.get(key, largest**alpha) for key in range(tail, head)}
            errors = st.tuples(st.integers(max(0, tail - capacity), head + 3), st.floats(0.0, 9.0))
            for key, error in data.draw(st.lists(errors, max_size=10)):
                set_errors(sampler, {key: float(np.float32(error))})
                priority = float(np.float32(error)) + 0.01
                largest = max(largest, priority)
                if key in living:
                    living[key] = priority**alpha
            leaves = sampler._tree.get(np.arange(capacity))
            expected = np.zeros(capacity)
            for key, value in living.items():
                expected[key % capacity] = value
            np.testing.assert_allclose(leaves, expected, rtol=1e-12)
            if living:
                keys, _ = sampler.sample(20, 0)
                assert set(keys.tolist()) <= set(living)
                values = np.array(list(living.values()))
                np.testing.assert_allclose(sampler.probabilities(np.array(list(living))), values / values.sum())

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_in_a_real_replay(self, num_envs):
        replay = make_replay(num_envs, 4, 3, 25, 40, sampler="prioritized")
        sampler: Any = replay._sampler
        script = [[Episode(5), Episode(1), Episode(30, terminated=False)], [Episode(2)], [Episode(11, life_lost=4)]]
        episodes = ScriptedStream(script[:num_envs], 4)
        replay.begin(episodes.reset())
        late: Keys = np.empty(0, np.int64)
        for step in range(300):
            replay.append(*episodes.step())
            living = np.arange(replay.items.tail, replay.items.head)
            assert np.flatnonzero(sampler._tree.get(np.arange(25))).tolist() == sorted(living % 25)
            if len(living):
                batch = replay.sample(8, step)
                assert np.isin(batch.key, living).all()
                replay.reprioritize(late, torch.ones(len(late)))  # as with batches in flight
                replay.reprioritize(batch.key, batch.reward.abs())
                late = batch.key
        assert replay.items.tail > 10 * 25

    def test_more_than_fits_is_refused(self):
        with pytest.raises(ValueError, match="9 items are alive, there is room for 8"):
            make(8).extend(0, 9)

    def test_where_nothing_lives_nothing_is_drawn(self):
        sampler = holding([1.0, 2.0])
        sampler.extend(2, 2)
        with pytest.raises(ValueError, match="nothing to find"):
            sampler.sample(1, 0)


def test_the_loop_tells_the_agent_step_and_brings_the_errors_back():
    options = RunOptions.model_validate(
        {
            "device": "cpu",
            "total_steps": 200,
            "network": {"torso": {"hidden": [4]}},
            "replay": {"capacity": 100, "warmup_steps": 50},
            "learning": {"batch_size": 8, "update_every_steps": 10, "updates": 2},
        }
    )
    training = make_training(options, resolve_hardware(options), make_environments(options))
    seen = []

    def beta(step: int) -> float:
        seen.append((step, training.loop.step))
        return 0.5

    sampler = make(100, beta=beta)
    training.replay._sampler = sampler
    for _ in training.loop.run():
        pass
    training.environments.close()
    assert len(seen) == training.learner.updates == 30
    assert all(told == step for told, step in seen)
    assert seen[0] != seen[-1]
    assert len(set(sampler.probabilities(np.arange(100, 200)).tolist())) > 20


class TestState:
    def test_it_is_whole(self):
        """A twin goes on bit for bit, the largest priority included: it belongs to no living item."""
        sampler, twin = (
            make(50, beta=LinearSchedule(0.4, 1.0, 0, 99)),
            make(50, beta=LinearSchedule(0.4, 1.0, 0, 99), seed=1),
        )

        def go_on(one: PrioritizedSampler, first: int, last: int, rng: np.random.Generator) -> list[Any]:
            drawn = []
            for count in range(first, last):
                one.extend(max(0, 7 * count - 40), 7 * count + 7)
                keys, weights = one.sample(16, count)
                one.reprioritize(keys, torch.from_numpy(rng.random(16) * (1e4 if count == 3 else 1)))
                drawn.append((keys.tolist(), weights.tobytes(), one.probabilities(keys).tobytes()))
            return drawn

        go_on(sampler, 0, 60, np.random.default_rng(0))
        state = reloaded(sampler.state_dict())
        before = str(state)
        expected = go_on(sampler, 60, 90, np.random.default_rng(1))
        twin.load_state_dict(state)
        assert go_on(twin, 60, 90, np.random.default_rng(1)) == expected
        assert str(twin.state_dict()) == str(sampler.state_dict())
        assert str(state) == before

    def test_it_replaces_what_was_there(self):
        sampler, twin = holding(ERRORS, 3), holding([5.0] * 7, 100)
        sampler.extend(5, 10)
        twin.load_state_dict(reloaded(sampler.state_dict()))
        assert twin._tree.get(np.arange(7)).tolist() == sampler._tree.get(np.arange(7)).tolist()

    def test_an_empty_one(self):
        twin = make()
        twin.load_state_dict(reloaded(make().state_dict()))
        twin.extend(0, 1)
        assert twin.sample(2, 0)[0].tolist() == [0, 0]

    def test_later_changes_do_not_reach_into_it(self):
        sampler = holding(ERRORS)
        state = sampler.state_dict()
        before = str(state)
        sampler.extend(2, 9)
        sampler.sample(5, 0)
        set_errors(sampler, {3: 99.0})
        assert str(state) == before

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"priorities": torch.ones(6, dtype=torch.float64)}, "no 7 priorities above 0"),
            ({"priorities": torch.ones(7)}, "no 7 priorities above 0"),
            ({"priorities": torch.ones(7, 1, dtype=torch.float64)}, "no 7 priorities above 0"),
            ({"priorities": torch.full((7,), math.nan, dtype=torch.float64)}, "no 7 priorities above 0"),
            ({"priorities": torch.full((7,), math.inf, dtype=torch.float64)}, "no 7 priorities above 0"),
            ({"priorities": torch.zeros(7, dtype=torch.float64)}, "no 7 priorities above 0"),
            ({"priorities": torch.ones(7, dtype=torch.float64, device="meta")}, "no 7 priorities above 0"),
            ({"priorities": torch.ones(7, dtype=torch.float64).to_sparse()}, "no 7 priorities above 0"),
            ({"priorities": [1.0] * 7}, "no 7 priorities above 0"),
            ({"priorities": None}, "no 7 priorities above 0"),
            ({"maximum": math.nan}, "a largest priority of nan"),
            ({"maximum": math.inf}, "a largest priority of inf"),
            ({"maximum": 0.5}, "a largest priority of 0.5"),
            ({"maximum": None}, "a largest priority of None"),
            ({"tail": -1}, "from -1 to 7, the config room for 7"),
            ({"tail": 8}, "from 8 to 7"),
            ({"head": 8}, "from 0 to 8, the config room for 7"),
            ({"head": "many"}, "from 0 to many"),
        ],
    )
    def test_nonsense_is_refused(self, changes, words):
        with pytest.raises(UsageError, match=words):
            make(7).load_state_dict(holding(ERRORS).state_dict() | changes)

    def test_that_of_another_sampler_is_refused(self):
        state = make_replay(1, 1, 1, 7, 9).state_dict()["sampler"] | {"head": 3}
        with pytest.raises(UsageError, match="no 3 priorities above 0; it is damaged or of another sampler"):
            make(7).load_state_dict(state)
