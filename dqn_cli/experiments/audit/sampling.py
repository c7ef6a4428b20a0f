"""Holds a sampler to its distribution: chances, importance weights and how often each item is drawn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from dqn_cli.core.types import Array, FloatArray, IntArray
from dqn_cli.experiments.audit.oracles import Oracle
from dqn_cli.experiments.audit.report import Check
from dqn_cli.replay.buffer import Replay

DRAWS = 100
"""Draws for each living item at the end: enough to miss one that is never drawn, or to see one twice as likely."""

_FALSE_ALARMS = 1e-6
"""Chance that a right sampler fails one family of counts."""

_TOLERANCE = 1e-5
"""Of float32 weights, and of sums in another order, relative."""

_LARGEST_ERROR = 10.0
_LEAST_EXPECTED = 5.0
_MOST_BATCHES = 4_000


class Sampling:
    """Draws from a replay, gives its items errors, and compares with an oracle.

    Args:
        replay: What is checked.
        oracle: What its sampler must do; None where nobody knows.
        kind: Of the sampler, for people.
        rng: The stream of the errors.
    """

    def __init__(self, replay: Replay, oracle: Oracle | None, kind: str, rng: np.random.Generator) -> None:
        self._replay, self._oracle, self._rng = replay, oracle, rng
        reason = "" if oracle else f"the audit does not know how a sampler of kind '{kind}' is to draw"
        self.chances = Check(
            "sampling chances",
            "priorities of other items, an exponent twice, new items too low (trap 15)",
            reason=reason,
        )
        self.weights = Check(
            "importance weights", "weights of other items, beta of another step (traps 13, 15)", reason=reason
        )
        self.frequencies = Check("sampling frequencies", "items drawn too often or never (trap 15)", reason=reason)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in the order of the path of the data."""
        return (self.chances, self.weights, self.frequencies)

    def after_append(self) -> None:
        """Tells the oracle which items are alive."""
        if self._oracle is not None:
            self._oracle.extend(self._replay.items.tail, self._replay.items.head)

    def check_batch(self, keys: IntArray, weights: Array, step: int, chances: FloatArray | None = None) -> None:
        """Compares the weights ``[B]`` of a batch; dead ones of its ``keys [B]`` are told elsewhere.

        Args:
            keys: Of the batch.
            weights: Of the batch.
            step: Agent step at which it was drawn.
            chances: What the oracle says now, ``[N]``, where it was asked already.
        """
        items = self._replay.items
        if self._oracle is None or ((keys < items.tail) | (keys >= items.head)).any():
            return
        chances = self._oracle.chances() if chances is None else chances
        raw = (len(items) * chances[keys - items.tail]) ** -self._oracle.exponent(step)
        wanted = raw / raw.max()
        wrong = ~np.isclose(weights, wanted, rtol=_TOLERANCE, atol=0.0)
        first = int(wrong.argmax())
        self.weights.hold(
            not wrong.any(),
            f"item {keys[first]} weighs {float(weights[first]):.6g} in a batch of agent step {step}, "
            f"it should {wanted[first]:.6g}",
            len(keys),
        )

    def check_chances(self) -> None:
        """Compares the chance of every living item."""
        if self._oracle is None:
            return
        living = np.arange(self._replay.items.tail, self._replay.items.head)
        found, wanted = self._replay.probabilities(living), self._oracle.chances()
        wrong = ~np.isclose(found, wanted, rtol=_TOLERANCE, atol=0.0)
        first = int(wrong.argmax())
        self.chances.hold(
            not wrong.any(),
            f"item {living[first]} is drawn with chance {found[first]:.6g}, it should be with {wanted[first]:.6g}",
            len(living),
        )

    def reprioritize(self, keys: IntArray) -> None:
        """Gives the items ``keys [B]`` errors of very different sizes, the first one twice, and some that have left."""
        items = self._replay.items
        left = items.tail - 1 - self._rng.integers(items.capacity, size=4)
        keys = np.concatenate((keys, keys[:1], left[left >= 0]))
        errors = _LARGEST_ERROR ** self._rng.uniform(-3.0, 1.0, len(keys))
        errors[self._rng.random(len(keys)) < 0.1] = 0.0
        self._take(keys, errors)

    def check_frequencies(self, batch_size: int, steps: int) -> None:
        """Draws batches and compares how often each item is in one with its chance.

        Args:
            batch_size: Draws in a batch, unless that takes too many of them.
            steps: Agent steps of a run; batches are drawn at several of them.
        """
        items = self._replay.items
        living = np.arange(items.tail, items.head)
        self._spread(living)
        self.check_chances()
        draws, counts = DRAWS * len(living), np.zeros(len(living), np.int64)
        batch_size = max(batch_size, -(-draws // _MOST_BATCHES))
        chances = None if self._oracle is None else self._oracle.chances()
        for number in range(-(-draws // batch_size)):
            step = number % 4 * steps // 2
            keys, weights = self._replay.draw(batch_size, step)
            gone = keys[(keys < items.tail) | (keys >= items.head)]
            if len(gone):
                self.frequencies.hold(False, f"item {gone[0]} was drawn and does not live", batch_size)
                return
            self.check_batch(keys, weights, step, chances)
            counts += np.bincount(keys - items.tail, minlength=len(living))
        if self._oracle is not None and chances is not None:
            for doubt in _doubts(counts, counts.sum() * chances, items.tail, self._oracle.stratified):
                self.frequencies.hold(False, doubt, 0)
            self.frequencies.hold(True, "", int(counts.sum()))

    def _spread(self, living: IntArray) -> None:
        """Gives half of the living items other errors, and the oldest and newest, which go wrong first, the largest."""
        self.reprioritize(self._rng.permutation(living)[: -(-len(living) // 2)])
        ends = np.concatenate((living[:3], living[-3:]))
        self._take(ends, np.full(len(ends), _LARGEST_ERROR))

    def _take(self, keys: IntArray, errors: FloatArray) -> None:
        told = errors.astype(np.float32)  # as a learner has them
        if self._oracle is not None:
            self._oracle.take(keys.tolist(), told.tolist())
        self._replay.reprioritize(keys, torch.from_numpy(told))


def _doubts(counts: IntArray, expected: FloatArray, tail: int, stratified: bool) -> Iterator[str]:
    """Yields what is unlikely about the ``counts [N]`` of the items from ``tail`` on."""
    draws, number = int(counts.sum()), len(counts)
    limit = np.log(2 * number / _FALSE_ALARMS)
    excess = _surprise(counts, expected, draws) - limit
    worst = int(excess.argmax())
    place = f"item {tail + worst}, number {worst + 1:,} of {number:,} from the oldest"
    if excess[worst] > 0.0:
        yield f"{place}, was drawn {counts[worst]:,} times in {draws:,} draws, expected {expected[worst]:,.0f}"
    for size in (2**power for power in range(1, number.bit_length())):
        for name, part in (("oldest", slice(size)), ("newest", slice(number - size, None))):
            count, mean = counts[part].sum(), expected[part].sum()
            if _surprise(count, mean, draws) > limit:
                yield f"the {size} {name} items were drawn {count:,} times in {draws:,} draws, expected {mean:,.0f}"
    deviation = _chi_square_deviation(counts, expected)
    if deviation > 5.0 or (deviation < -5.0 and not stratified):
        yield (
            f"the counts of {number:,} items in {draws:,} draws have a chi-square that is {deviation:+.1f} standard "
            "deviations from what it should be"
        )


def _surprise(count: Array, expected: Array, draws: int) -> FloatArray:
    """Returns minus the logarithm of Chernoff's bound on the chance of a count so far out, on its side.

    It holds for independent draws and, by Hoeffding (1956), for one draw from each of several strata too.
    """

    def divergence(found: Array, mean: Array) -> FloatArray:
        tiny = np.finfo(np.float64).tiny
        return np.asarray(found * np.log(np.maximum(found, tiny) / np.maximum(mean, tiny)))

    return divergence(count, expected) + divergence(draws - count, draws - expected)


def _chi_square_deviation(counts: IntArray, expected: FloatArray) -> float:
    """Returns how many standard deviations a chi-square is off (Wilson and Hilferty 1931); 0 for no freedom.

    The rarest items count as one, so that none is expected less than five times.
    """
    order = np.argsort(expected)
    counts, expected = counts[order], expected[order]
    pooled = int((expected < _LEAST_EXPECTED).sum())
    if pooled:
        pooled = max(pooled, int(np.searchsorted(expected.cumsum(), _LEAST_EXPECTED)) + 1)
        counts = np.append(counts[pooled:], counts[:pooled].sum())
        expected = np.append(expected[pooled:], expected[:pooled].sum())
    degrees = len(counts) - 1
    if degrees < 1:
        return 0.0
    statistic = float(((counts - expected) ** 2 / expected).sum())
    spread = 2.0 / (9.0 * degrees)
    return float(((statistic / degrees) ** (1 / 3) - (1.0 - spread)) / spread**0.5)
