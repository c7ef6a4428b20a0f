"""The sum tree of a device, which here is the CPU, against the one of the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.replay import device_sum_tree
from dqn_cli.replay.device_sum_tree import DeviceSumTree
from dqn_cli.replay.sum_tree import SumTree

CPU = torch.device("cpu")


def tensor(values) -> torch.Tensor:
    return torch.from_numpy(np.array(values))


@st.composite
def cases(draw):
    capacity, branching = draw(st.integers(1, 70)), draw(st.sampled_from([2, 3, 8, 64]))
    # Integers, whose sums are exact in any order: two trees agree bit for bit.
    leaf = st.tuples(st.integers(0, capacity - 1), st.integers(0, 9))
    return capacity, branching, draw(st.lists(st.lists(leaf, min_size=1, max_size=40), min_size=1, max_size=5))


@given(cases(), st.sampled_from([1, 7, 2**16]))
def test_it_holds_and_finds_what_the_host_s_does(case, at_once):
    """Several values for one leaf in one call among them: the last wins, also where the call is done piece by piece."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_sum_tree, "_AT_ONCE", at_once)
        check_that_it_holds_and_finds_what_the_host_s_does(case)


def check_that_it_holds_and_finds_what_the_host_s_does(case: Any) -> None:
    capacity, branching, updates = case
    host, device = SumTree(capacity, branching), DeviceSumTree(capacity, CPU, branching)
    for update in updates:
        positions, values = np.array(update, np.int64).T
        host.set(positions, values.astype(np.float64))
        device.set(torch.from_numpy(positions), torch.from_numpy(values).double())
        everywhere = np.arange(capacity)
        assert device.get(torch.from_numpy(everywhere)).tolist() == host.get(everywhere).tolist()
        assert float(device.total) == host.total
        if host.total:
            targets = np.arange(0.0, host.total, 0.5)
            assert device.find(torch.from_numpy(targets)).tolist() == host.find(targets).tolist()


@given(st.integers(1, 300), st.integers(0, 2**32), st.sampled_from([2, 64]))
def test_a_leaf_of_zero_is_never_found(capacity, seed, branching):
    """Leaves of very different sizes, and targets at and beyond the end of all shares."""
    rng = np.random.Generator(np.random.PCG64(seed))
    leaves = 10.0 ** rng.uniform(-12, 12, capacity) * (rng.random(capacity) < 0.3)
    leaves[rng.integers(capacity)] = 1.0
    tree = DeviceSumTree(capacity, CPU, branching)
    tree.set(torch.arange(capacity), torch.from_numpy(leaves))
    total = float(tree.total)
    targets = np.concatenate((rng.random(50) * total, [0.0, total, np.nextafter(total, 0.0), 2 * total]))
    found = tree.find(torch.from_numpy(targets)).numpy()
    assert (leaves[found] > 0.0).all()


def test_what_goes_nowhere_is_not_found():
    tree = DeviceSumTree(5, CPU, 2)
    tree.set(tensor([1, tree.nowhere, 3, tree.nowhere]), tensor([2.0, 7.0, 1.0, float("inf")]))
    assert tree.get(torch.arange(5)).tolist() == [0.0, 2.0, 0.0, 1.0, 0.0]
    assert float(tree.total) == 3.0
    assert tree.find(tensor([0.0, 1.9, 2.0, 2.9, 99.0])).tolist() == [1, 1, 3, 3, 3]


@pytest.mark.parametrize(("capacity", "branching"), [(0, 64), (3, 1)])
def test_sizes_without_a_meaning_are_refused(capacity, branching):
    with pytest.raises(ValueError, match="at least 1 and branching 2"):
        DeviceSumTree(capacity, CPU, branching)
