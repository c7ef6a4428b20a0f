"""The audit knows how often each item is to be drawn, and with which weight."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest

from dqn_cli.experiments.audit.oracles import PrioritizedOracle
from dqn_cli.experiments.audit.sampling import _chi_square_deviation, _doubts
from dqn_cli.replay import prioritized
from dqn_cli.replay.prioritized import PrioritizedOptions, PrioritizedSampler
from dqn_cli.replay.samplers import UniformSampler
from tests.experiments.audits import audited, failed
from tests.mutants.defects import DEFECTS

SAMPLE = UniformSampler.sample


def newest_never(self: UniformSampler, size: int, step: int) -> Any:
    return self._rng.integers(self._tail, max(self._tail + 1, self._head - 1), size), np.ones(size)


def oldest_never(self: UniformSampler, size: int, step: int) -> Any:
    return self._rng.integers(min(self._tail + 3, self._head - 1), self._head, size), np.ones(size)


def oldest_never_and_newest_twice(self: UniformSampler, size: int, step: int) -> Any:
    keys, weights = SAMPLE(self, size, step)
    return np.where(keys == self._tail, self._head - 1, keys), weights


def newest_more_often(self: UniformSampler, size: int, step: int) -> Any:
    keys, weights = SAMPLE(self, size, step)
    return np.where(np.arange(size) % 10, keys, self._head - 1), weights


def newer_half_a_little_more_often(self: UniformSampler, size: int, step: int) -> Any:
    keys, weights = SAMPLE(self, size, step)
    half = (self._head - self._tail) // 2
    return np.where((keys < self._tail + half) & (np.arange(size) % 8 == 0), keys + half, keys), weights


def every_second_less_often(self: UniformSampler, size: int, step: int) -> Any:
    keys, weights = SAMPLE(self, size, step)
    other = np.where(keys == self._head - 1, self._tail, keys + 1)
    return np.where((keys % 2 == 0) & (np.arange(size) % 5 == 0), other, keys), weights


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (newest_never, "number 49 of 49 from the oldest, was drawn 0 times"),
        (oldest_never, " of 49 from the oldest, was drawn 0 times"),
        (oldest_never_and_newest_twice, "number 1 of 49 from the oldest, was drawn 0 times"),
        (newest_more_often, "number 49 of 49 from the oldest"),
        (newer_half_a_little_more_often, "items were drawn"),
        (every_second_less_often, "a chi-square that is +"),
    ],
)
def test_items_that_a_uniform_sampler_draws_too_often_or_never(sample, words, monkeypatch):
    monkeypatch.setattr(UniformSampler, "sample", sample)
    found = failed(audited())
    assert set(found) == {"sampling frequencies"}
    assert words in found["sampling frequencies"]


def test_a_uniform_sampler_that_is_too_even(monkeypatch):
    turn = itertools.count()

    def each_in_turn(self: UniformSampler, size: int, step: int) -> Any:
        numbers = np.array(list(itertools.islice(turn, size)))
        return self._tail + numbers % (self._head - self._tail), np.ones(size)

    monkeypatch.setattr(UniformSampler, "sample", each_in_turn)
    found = failed(audited())
    assert set(found) == {"sampling frequencies"}
    assert "a chi-square that is -" in found["sampling frequencies"]


def test_a_single_item_of_a_larger_replay(monkeypatch):
    monkeypatch.setattr(UniformSampler, "sample", newest_never)
    assert "sampling frequencies" in failed(audited(steps=2_500))


def test_weights_of_two(monkeypatch):
    monkeypatch.setattr(UniformSampler, "sample", lambda *a: (SAMPLE(*a)[0], 2 * SAMPLE(*a)[1]))
    assert "weighs 2 in a batch" in failed(audited())["importance weights"]


def test_chances_that_are_told_wrong(monkeypatch):
    monkeypatch.setattr(UniformSampler, "probabilities", lambda self, keys: np.full(len(keys), 0.01))
    assert set(failed(audited())) == {"sampling chances"}


@pytest.mark.parametrize(
    ("defect", "check"),
    [
        ("the priority's exponent applied twice", "sampling chances"),
        ("new priorities without their exponent", "sampling chances"),
        ("an error of zero is never drawn again", "sampling chances"),
        ("new items at priority 1 instead of the maximum", "sampling chances"),
        ("the largest priority of the latest batch for the largest seen", "sampling chances"),
        ("late priorities go to the items that came after", "sampling chances"),
        ("keys counted from the leaf and not from the oldest item", "importance weights"),
        ("importance weights not normalised", "importance weights"),
        ("importance weights normalised by the mean", "importance weights"),
        ("importance weights the wrong way round", "importance weights"),
        ("beta by the size of the batch", "importance weights"),
    ],
)
def test_a_defect_of_prioritized_replay(defect, check, monkeypatch):
    (one,) = (known for known in DEFECTS if known.name == defect)
    source = inspect.getsource(PrioritizedSampler)
    assert source.count(one.right) == 1
    namespace = dict(vars(prioritized))
    exec(source.replace(one.right, one.wrong), namespace)
    monkeypatch.setattr("dqn_cli.build.PrioritizedSampler", namespace["PrioritizedSampler"])
    assert check in failed(audited(sampler={"kind": "prioritized"}))


def test_a_beta_that_stops_where_no_audit_plays(monkeypatch):
    """Batches are drawn at agent steps of the whole run."""
    sample = PrioritizedSampler.sample
    monkeypatch.setattr(PrioritizedSampler, "sample", lambda self, size, step: sample(self, size, min(step, 1_000)))
    found = failed(audited(sampler={"kind": "prioritized"}))
    assert "in a batch of agent step 25000" in found["importance weights"]


@pytest.mark.parametrize("part", [0, -1])
def test_an_item_that_a_prioritized_sampler_never_draws(part, monkeypatch):
    sample = PrioritizedSampler.sample

    def wrong(self: PrioritizedSampler, size: int, step: int) -> Any:
        keys, weights = sample(self, size, step)
        never = (self._tail, self._head - 1)[part]
        # Weights are those of the items drawn instead, so that nothing but the frequencies tells.
        return np.where(keys == never, keys[keys != never][0], keys), np.where(
            keys == never, weights[keys != never][0], weights
        )

    monkeypatch.setattr(PrioritizedSampler, "sample", wrong)
    found = failed(audited(sampler={"kind": "prioritized", "alpha": 1.0}))
    assert "was drawn 0 times" in found["sampling frequencies"]


class TestOracle:
    def test_by_hand(self):
        options = PrioritizedOptions.model_validate({"alpha": 0.5, "eps": 1.0, "beta": {"start": 0.2, "end": 1.0}})
        oracle = PrioritizedOracle(options, total_steps=100)
        oracle.extend(0, 3)  # priorities 1, 1, 1
        oracle.take([1, 0, 1], [3.0, 24.0, 8.0])  # 25, 9, 1
        oracle.extend(1, 4)  # 9, 1 and the largest so far, 25
        np.testing.assert_allclose(oracle.chances(), np.array([3, 1, 5]) / 9)
        oracle.take([0], [35.0])  # has left: only the largest goes up, to 36
        oracle.extend(2, 5)
        np.testing.assert_allclose(oracle.chances(), np.array([1, 5, 6]) / 12)
        assert [oracle.exponent(step) for step in (0, 50, 100, 200)] == pytest.approx([0.2, 0.6, 1.0, 1.0])


class TestCounts:
    @pytest.mark.parametrize("number", [1, 2, 49, 3_000])
    @pytest.mark.parametrize("width", [0.0, 3.0])
    def test_chance_alone_raises_no_doubt(self, number, width):
        rng = np.random.Generator(np.random.PCG64(number))
        for _ in range(20):
            chances = np.exp(rng.uniform(-width, width, number))
            chances /= chances.sum()
            counts = rng.multinomial(100 * number, chances)
            assert list(_doubts(counts, 100 * number * chances, 0, stratified=False)) == []

    def test_one_item_twice_as_often(self):
        rng = np.random.Generator(np.random.PCG64(0))
        chances = np.full(3_000, 1 / 3_001)
        chances[-1] *= 2
        (doubt, *_) = _doubts(rng.multinomial(300_000, chances), np.full(3_000, 100.0), 7, stratified=True)
        assert doubt.startswith("item 3006, number 3,000 of 3,000 from the oldest, was drawn")

    def test_the_chi_square_has_the_spread_of_a_normal_variable(self):
        rng = np.random.Generator(np.random.PCG64(0))
        for chances in (np.full(50, 0.02), np.r_[np.full(40, 0.024), np.full(100, 0.0004)]):
            found = [_chi_square_deviation(rng.multinomial(2_000, chances), 2_000 * chances) for _ in range(2_000)]
            assert abs(np.mean(found)) < 0.1
            assert abs(np.std(found) - 1.0) < 0.06
