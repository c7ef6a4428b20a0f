"""Sums over ranges of priorities, so that an item can be found by a share of their total."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dqn_cli.core.types import FloatArray, IntArray

BRANCHING = 64
"""Children of a node. A million leaves are four array operations deep, and nodes take 1.6% beside the leaves."""


class SumTree:
    """A wide tree over ``capacity`` leaves of at least 0, all 0 at first; each node is the sum of its children.

    A node is always summed anew and never corrected by a difference: rounding errors do not pile up, and the tree is a
    function of its leaves alone, bit for bit.

    Args:
        capacity: Number of leaves.
        branching: Children of a node, at least 2.
    """

    def __init__(self, capacity: int, branching: int = BRANCHING) -> None:
        if capacity < 1 or branching < 2:
            raise ValueError(f"capacity must be at least 1 and branching 2, got {capacity} and {branching}")
        self._branching = branching
        # From the leaves up to the root: row r holds the children of node r. Zeros pad the last row.
        self._levels = [np.zeros((-(-capacity // branching), branching))]
        while len(self._levels[-1]) > 1:
            self._levels.append(np.zeros((-(-len(self._levels[-1]) // branching), branching)))
        self._leaves = self._levels[0].reshape(-1)[:capacity]  # a view

    @property
    def total(self) -> float:
        """Sum of all leaves."""
        return float(self._levels[-1].sum())

    def set(self, positions: IntArray, values: FloatArray) -> None:
        """Sets the leaves at ``positions [M]`` to ``values [M]``; of several for one leaf the last wins.

        Raises:
            ValueError: A value is negative or not finite.
        """
        if not (np.isfinite(values) & (values >= 0.0)).all():
            raise ValueError(f"leaves must be finite and at least 0, got {values.min()} to {values.max()}")
        # NumPy assigns in the order of memory, which for contiguous arrays is theirs.
        self._leaves[np.ascontiguousarray(positions)] = np.ascontiguousarray(values)
        nodes = positions
        for level, above in pairwise(self._levels):
            nodes = nodes // self._branching
            if len(nodes) > len(level):
                nodes = np.unique(nodes)  # so that a large update takes no more memory than the level
            above.reshape(-1)[nodes] = level.take(nodes, 0).sum(1)

    def get(self, positions: IntArray) -> FloatArray:
        """Returns the leaves at ``positions [M]``."""
        return self._leaves[positions]

    def find(self, targets: FloatArray) -> IntArray:
        """Returns for each target in [0, ``total``), ``[M]``, the leaf in whose share of the total it lies, ``[M]``.

        Leaf i has the share [sum of those before it, the same with it). A leaf of 0 is never found, also where rounding
        lets a target reach the end of a node.

        Raises:
            ValueError: All leaves are 0.
        """
        if self.total <= 0.0:
            raise ValueError("all leaves are 0: there is nothing to find")
        nodes = np.zeros(1, np.int64)  # the root, for all targets
        for level in reversed(self._levels):
            ends = level.take(nodes, 0).cumsum(1)  # [M, branching]; [1, branching] at the root
            targets = np.minimum(targets, np.nextafter(ends[:, -1], 0.0))
            child = (ends > targets[:, None]).argmax(1)  # the first: its end lies above that of the one before it
            targets = targets - np.where(child > 0, ends[np.arange(len(nodes)), child - 1], 0.0)
            nodes = nodes * self._branching + child
        return nodes
