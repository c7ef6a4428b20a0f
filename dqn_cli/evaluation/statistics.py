"""Summaries of a handful of noisy scores, with the uncertainty that belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from dqn_cli.core.types import FloatArray

RowStatistic: TypeAlias = "Callable[[FloatArray], FloatArray]"
"""A statistic of each row: ``[R, n]`` to ``[R]``."""

_CONFIDENCE = 0.95
_RESAMPLES = 2_000
_BLOCK_VALUES = 1 << 20


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """Returns of the episodes of one evaluation.

    Attributes:
        episodes: Number of episodes.
        return_mean: Mean return.
        return_std: Sample standard deviation (divisor n - 1); 0 for a single episode.
        return_iqm: Interquartile mean.
        return_median: Median.
        return_ci95: (low, high), the 95% percentile bootstrap interval of the mean over episodes. It is the
            uncertainty of this agent's score, not of its training; with few episodes it is too narrow, with
            one it has no width.
    """

    episodes: int
    return_mean: float
    return_std: float
    return_iqm: float
    return_median: float
    return_ci95: tuple[float, float]


def summarize(returns: Sequence[float], seed: int = 0) -> ScoreSummary:
    """Summarizes the returns of n episodes; the same returns and seed give the same summary.

    Args:
        returns: One raw return an episode.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: There is no return, or one is not finite.
    """
    values = _finite(returns)
    interval = bootstrap_interval(values, row_means, rng=np.random.default_rng(seed))
    return ScoreSummary(
        episodes=len(values),
        return_mean=float(values.mean()),
        return_std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        return_iqm=interquartile_mean(values),
        return_median=float(np.median(values)),
        return_ci95=interval,
    )


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Returns the mean of the middle half of ``values [n]``: int(n / 4) are cut at each end.

    The same cut as in rliable (Agarwal et al. 2021, arXiv 2108.13264), which is that of
    ``scipy.stats.trim_mean(values, 0.25)``; with fewer than four values it is the mean.

    Raises:
        ValueError: There is no value, or one is not finite.
    """
    return float(row_interquartile_means(_finite(values)[np.newaxis])[0])


def row_means(samples: FloatArray) -> FloatArray:
    """Returns the mean of each row: ``[R, n]`` to ``[R]``."""
    means: FloatArray = samples.mean(axis=-1)
    return means


def row_interquartile_means(samples: FloatArray) -> FloatArray:
    """Returns the interquartile mean of each row: ``[R, n]`` to ``[R]``."""
    n = samples.shape[-1]
    cut = n // 4
    # The order inside the middle does not matter, so two partitions do what a sort would.
    middle = np.partition(samples, (cut, n - cut - 1), axis=-1)[..., cut : n - cut]
    return row_means(middle)


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: RowStatistic,
    confidence: float = _CONFIDENCE,
    resamples: int = _RESAMPLES,
    *,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval (low, high) of a statistic of ``values [n]``.

    Efron & Tibshirani 1993, chapter 13: the quantiles of the statistic over samples of n values drawn with
    replacement.

    Args:
        values: What was observed, ``[n]``.
        statistic: `row_means`, `row_interquartile_means`, or another that takes ``[R, n]`` to ``[R]``.
        confidence: Mass of the interval, between 0 and 1.
        resamples: Number of samples drawn.
        rng: Where they are drawn from.

    Raises:
        ValueError: There is no value, one is not finite, or ``confidence`` or ``resamples`` is out of range.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}: it must lie between 0 and 1")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: it must be at least 1")
    observed = _finite(values)
    n = len(observed)
    estimates = np.empty(resamples)
    rows = max(1, _BLOCK_VALUES // n)  # bounds the memory: n may be ten thousand episodes
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        estimates[start:stop] = statistic(observed[rng.integers(n, size=(stop - start, n))])
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(estimates, (tail, 1.0 - tail))
    return float(low), float(high)


def _finite(values: npt.ArrayLike) -> FloatArray:
    """Returns ``values`` as float64 ``[n]``, n at least 1, all finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values have the shape {array.shape}: they must be a list of numbers")
    if array.size == 0:
        raise ValueError("values are empty: a summary needs at least one")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise ValueError(f"values[{wrong[0]}] is {array[wrong[0]]}: every value must be finite")
    return array
