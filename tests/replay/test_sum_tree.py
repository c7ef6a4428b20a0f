"""The sum tree, against sums made anew from a plain list of leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.replay.sum_tree import SumTree

BRANCHINGS = st.sampled_from([2, 3, 10, 64])
WHOLE = st.integers(0, 5).map(float)
"""Their sums are exact."""

WIDE = st.one_of(st.just(0.0), st.floats(-12, 12).map(lambda exponent: 10**exponent))


def tree_of(leaves: list[float], branching: int = 64) -> SumTree:
    tree = SumTree(len(leaves), branching)
    tree.set(np.arange(len(leaves)), np.array(leaves))
    return tree


@st.composite
def histories(draw, values):
    """A capacity, a branching, and updates that may name a leaf several times."""
    capacity = draw(st.integers(1, 300))
    update = st.lists(st.tuples(st.integers(0, capacity - 1), values), max_size=60)
    return capacity, draw(BRANCHINGS), draw(st.lists(update, min_size=1, max_size=6))


def played(history: Any) -> Iterator[tuple[SumTree, list[float]]]:
    """The tree and the naive list after each update."""
    capacity, branching, updates = history
    tree, leaves = SumTree(capacity, branching), [0.0] * capacity
    for update in updates:
        for position, value in update:
            leaves[position] = value
        tree.set(np.array([p for p, _ in update], np.int64), np.array([v for _, v in update]))
        yield tree, leaves


@settings(max_examples=60)
@given(history=histories(WHOLE))
def test_each_target_finds_the_leaf_whose_share_it_lies_in(history):
    for tree, leaves in played(history):
        ends = np.cumsum(leaves)
        assert tree.get(np.arange(len(leaves))).tolist() == leaves
        assert tree.total == ends[-1]
        if ends[-1]:
            targets = np.arange(0.0, ends[-1], 0.25)  # starts and insides of the shares
            assert tree.find(targets).tolist() == np.searchsorted(ends, targets, side="right").tolist()


@settings(max_examples=60)
@given(history=histories(WIDE), shares=st.lists(st.floats(0.0, 1.0), max_size=20))
def test_values_of_any_size(history, shares):
    for tree, leaves in played(history):
        total = math.fsum(leaves)
        assert tree.total == pytest.approx(total, rel=1e-12)
        if total:
            ends = np.cumsum(leaves)
            at = np.concatenate((ends, np.nextafter(ends, 0.0), np.array(shares) * tree.total))
            targets = np.minimum(at, np.nextafter(tree.total, 0.0))
            found = tree.find(targets)
            assert (tree.get(found) > 0.0).all()
            starts = np.concatenate(([0.0], ends))[found]
            slack = 1e-12 * total
            assert (starts - slack <= targets).all()
            assert (targets < ends[found] + slack).all()


@given(history=histories(WHOLE), beyond=st.floats(1.0, 1.5))
def test_a_target_past_the_end_finds_the_last_leaf_above_zero(history, beyond):
    for tree, leaves in played(history):
        if any(leaves):
            last = max(i for i, leaf in enumerate(leaves) if leaf)
            assert tree.find(np.array([beyond * tree.total])).tolist() == [last]


@pytest.mark.parametrize("seed", range(20))
def test_rounding_inside_a_node_never_leads_to_a_leaf_of_zero(seed):
    """What is left of a target after the shares before it may reach the end of the share that it lies in."""
    rng = np.random.default_rng(seed)
    leaves = rng.random(300) * (rng.random(300) < 0.3)
    tree, ends = tree_of(leaves.tolist(), 4), np.cumsum(leaves)
    for targets in (np.nextafter(ends, 0.0), ends, np.nextafter(ends, np.inf)):
        assert (tree.get(tree.find(targets)) > 0.0).all()


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.floats(0.0, 9.0)), min_size=1, max_size=40),
    stride=st.sampled_from([1, -1, 2, -3]),
)
def test_of_several_values_for_one_leaf_the_last_wins(pairs, stride):
    """Also where the arrays are views that run through memory in another order."""
    tree = SumTree(5, 2)
    positions, values = np.array([p for p, _ in pairs])[::stride], np.array([v for _, v in pairs])[::stride]
    tree.set(positions, values)
    expected = dict(zip(positions.tolist(), values.tolist(), strict=True))
    assert tree.get(np.arange(5)).tolist() == [expected.get(position, 0.0) for position in range(5)]
    assert tree.total == pytest.approx(math.fsum(expected.values()))


def test_a_hundred_thousand_updates_leave_no_trace_in_the_sums():
    rng = np.random.default_rng(0)
    tree = SumTree(1_000, 10)
    for _ in range(10_000):
        tree.set(rng.integers(0, 1_000, 10), 10.0 ** rng.uniform(-12, 12, 10))
    leaves = tree.get(np.arange(1_000))
    assert tree.total == pytest.approx(math.fsum(leaves), rel=1e-12)
    small = np.flatnonzero(leaves > 1e-9)
    tree.set(small, np.full(len(small), 1e-12))  # what large values left behind would show now
    assert tree.total == pytest.approx(math.fsum(tree.get(np.arange(1_000))), rel=1e-12)


@pytest.mark.parametrize("branching", [2, 64])
def test_the_tree_is_a_function_of_its_leaves_bit_for_bit(branching):
    rng = np.random.default_rng(0)
    tree = SumTree(5_000, branching)
    for _ in range(300):
        tree.set(rng.integers(0, 5_000, 40), 10.0 ** rng.uniform(-12, 12, 40))
    twin = tree_of(tree.get(np.arange(5_000)).tolist(), branching)
    targets = rng.random(2_000) * tree.total
    assert twin.total == tree.total
    assert twin.find(targets).tolist() == tree.find(targets).tolist()
    for ours, theirs in zip(tree._levels, twin._levels, strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("value", [-1.0, -1e-300, math.nan, math.inf, -math.inf])
def test_values_that_are_no_priorities_are_refused(value):
    tree = tree_of([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="finite and at least 0"):
        tree.set(np.array([0, 1]), np.array([7.0, value]))
    assert tree.get(np.arange(3)).tolist() == [1.0, 2.0, 3.0]


def test_positions_outside_are_refused():
    with pytest.raises(IndexError):
        SumTree(70).set(np.array([70]), np.array([1.0]))


def test_where_all_leaves_are_zero_there_is_nothing_to_find():
    tree = tree_of([0.0, 1.0])
    tree.set(np.array([1]), np.array([0.0]))
    with pytest.raises(ValueError, match="nothing to find"):
        tree.find(np.array([0.0]))


def test_nothing_asked_is_nothing_done():
    tree, nothing = tree_of([1.0, 2.0]), np.empty(0, np.int64)
    tree.set(nothing, np.empty(0))
    assert tree.total == 3.0
    assert len(tree.get(nothing)) == len(tree.find(np.empty(0))) == 0


@pytest.mark.parametrize(("capacity", "branching"), [(0, 64), (5, 1)])
def test_sizes_without_a_meaning_are_refused(capacity, branching):
    with pytest.raises(ValueError, match="at least 1"):
        SumTree(capacity, branching)


def test_a_million_leaves_take_eight_megabytes_and_two_percent():
    levels = SumTree(1_000_000)._levels
    assert len(levels) == 4
    assert 8e6 <= sum(level.nbytes for level in levels) <= 1.02 * 8e6
