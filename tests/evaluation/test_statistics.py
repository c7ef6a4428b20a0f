"""Score summaries against closed forms, rliable's definition and brute force."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.evaluation.statistics import (
    bootstrap_interval,
    interquartile_mean,
    row_interquartile_means,
    row_means,
    summarize,
)

RETURNS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 3.0], 2.0),
        ([0.0, 1.0, 8.0], 3.0),  # int(0.75) is 0: nothing is cut
        ([100.0, 2.0, -50.0, 4.0], 3.0),
        ([9.0, 1.0, 2.0, 3.0, 90.0], 14.0 / 3.0),  # one at each end
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 4.0),  # int(1.75) is 1
        ([0.0, 0.0, 1.0, 2.0, 3.0, 6.0, 50.0, 60.0], 3.0),
    ],
)
def test_interquartile_mean_closed_forms(values: list[float], expected: float) -> None:
    assert interquartile_mean(values) == pytest.approx(expected, abs=1e-12)


@given(RETURNS)
def test_interquartile_mean_is_the_trimmed_mean_of_the_sorted_values(values: list[float]) -> None:
    cut = int(0.25 * len(values))
    middle = sorted(values)[cut : len(values) - cut]
    assert interquartile_mean(values) == pytest.approx(math.fsum(middle) / len(middle), rel=1e-9, abs=1e-6)


def test_interquartile_mean_of_many_shuffled_values() -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1001.0) ** 2)
    assert interquartile_mean(shuffled) == pytest.approx(np.mean(np.arange(250.0, 751.0) ** 2))


@given(RETURNS)
def test_rows_are_summarized_independently(values: list[float]) -> None:
    rows = np.array([values, [2 * value for value in values]])
    assert row_interquartile_means(rows).tolist() == [interquartile_mean(row) for row in rows]
    assert rows[0].tolist() == values  # the argument is not reordered


def test_bootstrap_interval_has_the_quantiles_of_all_possible_samples() -> None:
    # Few enough values to enumerate every sample: 5^5 equally likely means.
    values = [0.0, 1.0, 4.0, 9.0, 25.0]
    exact = [float(np.mean(sample)) for sample in itertools.product(values, repeat=len(values))]
    for confidence in (0.5, 0.9):
        tail = (1 - confidence) / 2
        expected = np.quantile(exact, [tail, 1 - tail])
        interval = bootstrap_interval(values, row_means, confidence, resamples=40_000, rng=np.random.default_rng(1))
        assert interval == pytest.approx(tuple(expected), abs=0.25)


def test_bootstrap_interval_of_the_mean_agrees_with_the_normal_one_for_many_values() -> None:
    values = np.random.default_rng(2).normal(10.0, 3.0, size=400)
    low, high = bootstrap_interval(values, row_means, rng=np.random.default_rng(3))
    half = 1.96 * values.std() / 20.0
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)


def test_bootstrap_takes_the_statistic_that_it_is_given() -> None:
    values = [0.0, 1.0, 2.0, 3.0, 1000.0]
    rng = np.random.default_rng(4)
    assert bootstrap_interval(values, row_means, rng=rng)[1] > 300.0
    assert bootstrap_interval(values, lambda rows: np.median(rows, axis=-1), confidence=0.5, rng=rng)[1] <= 3.0
    assert bootstrap_interval(values, row_interquartile_means, confidence=0.5, rng=rng)[1] <= 335.0


def test_bootstrap_of_many_values_does_not_depend_on_its_blocks() -> None:
    # Two rows at a time fill a block: every row of the result must be filled, with samples of its own.
    n = 400_000
    values = np.arange(float(n))
    low, high = bootstrap_interval(values, row_means, resamples=5, rng=np.random.default_rng(5))
    deviation = n / math.sqrt(12.0) / math.sqrt(n)
    assert 0 < high - low < 6 * deviation
    assert (low + high) / 2 == pytest.approx((n - 1) / 2, abs=4 * deviation)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"confidence": 0.0}, "confidence is 0.0"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"confidence": math.nan}, "confidence is nan"),
        ({"resamples": 0}, "resamples is 0"),
    ],
)
def test_bootstrap_refuses_what_makes_no_interval(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval([1.0, 2.0], row_means, rng=np.random.default_rng(0), **keywords)


def test_summary_closed_form() -> None:
    summary = summarize([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert summary.episodes == 8
    assert summary.return_mean == 5.0
    assert summary.return_std == pytest.approx(math.sqrt(32.0 / 7.0))
    assert summary.return_iqm == 4.5
    assert summary.return_median == 4.5
    low, high = summary.return_ci95
    half = 1.96 * math.sqrt(32.0 / 8.0) / math.sqrt(8.0)
    assert (low, high) == pytest.approx((5.0 - half, 5.0 + half), abs=0.3)


def test_a_single_episode_has_no_spread() -> None:
    summary = summarize([-20.5])
    assert (summary.return_std, summary.return_ci95) == (0.0, (-20.5, -20.5))
    assert (summary.return_mean, summary.return_iqm, summary.return_median) == (-20.5, -20.5, -20.5)


def test_two_episodes() -> None:
    summary = summarize([1.0, 3.0])
    assert (summary.return_mean, summary.return_iqm, summary.return_median) == (2.0, 2.0, 2.0)
    assert summary.return_std == pytest.approx(math.sqrt(2.0))
    assert summary.return_ci95 == (1.0, 3.0)  # a quarter of the samples is (1, 1)


@given(RETURNS, st.integers(0, 2**31 - 1))
def test_a_summary_is_a_function_of_returns_and_seed_in_plain_values(returns: list[float], seed: int) -> None:
    summary = summarize(returns, seed)
    assert summary == summarize(list(returns), seed)
    low, high = summary.return_ci95
    slack = 1e-9 * (1 + max(map(abs, returns)))
    assert min(returns) - slack <= low <= high <= max(returns) + slack
    numbers = (summary.return_mean, summary.return_std, summary.return_iqm, summary.return_median, low, high)
    assert {type(number) for number in numbers} == {float}


def test_the_seed_moves_the_interval_only() -> None:
    returns = [1.0, 2.0, 7.0, 30.0, 31.5, 60.0]
    one, other = summarize(returns, seed=1), summarize(returns, seed=2)
    assert one.return_ci95 != other.return_ci95
    assert one.return_mean == other.return_mean


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ([], "values are empty"),
        ([1.0, math.inf], r"values\[1\] is inf"),
        ([math.nan, 1.0], r"values\[0\] is nan"),
        ([-math.inf], r"values\[0\] is -inf"),
    ],
)
def test_what_cannot_be_summarized_is_refused(returns: list[float], message: str) -> None:
    for function in (
        summarize,
        interquartile_mean,
        lambda values: bootstrap_interval(values, row_means, rng=np.random.default_rng(0)),
    ):
        with pytest.raises(ValueError, match=message):
            function(returns)


def test_a_table_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        interquartile_mean([[1.0, 2.0], [3.0, 4.0]])
