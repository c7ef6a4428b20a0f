"""The sum tree in the memory of a GPU, or of any other device of torch."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from dqn_cli.replay.sum_tree import BRANCHING

_AT_ONCE = 2**16
"""Leaves that are set at once: each gathers a row of siblings, 32 MiB for so many."""


class DeviceSumTree:
    """The tree of `SumTree` on ``device``, without a value that the host would have to wait for.

    So it does not check what it is given: leaves must be finite and at least 0, and not all of them 0 when there is
    something to find. One more position, ``nowhere``, takes what belongs to no leaf: with a mask that leaves it out,
    the number of what remains would be a question to the device.

    Args:
        capacity: Number of leaves.
        device: Where the tree lies.
        branching: Children of a node, at least 2.
    """

    def __init__(self, capacity: int, device: torch.device, branching: int = BRANCHING) -> None:
        if capacity < 1 or branching < 2:
            raise ValueError(f"capacity must be at least 1 and branching 2, got {capacity} and {branching}")
        self._branching, self.nowhere = branching, capacity

        def zeros(nodes: int) -> Tensor:
            return torch.zeros(-(-nodes // branching), branching, dtype=torch.float64, device=device)

        # From the leaves up to the root: row r holds the children of node r. Zeros pad the last row.
        self._levels = [zeros(capacity + 1)]
        while len(self._levels[-1]) > 1:
            self._levels.append(zeros(len(self._levels[-1])))
        self._leaves = self._levels[0].view(-1)
        # A product with it is the sum up to each child; torch's own has no fixed order of summing on CUDA.
        self._up_to = torch.ones(branching, branching, dtype=torch.float64, device=device).triu()

    @property
    def total(self) -> Tensor:
        """Sum of all leaves, a scalar."""
        return self._levels[-1].sum()

    def set(self, positions: Tensor, values: Tensor) -> None:
        """Sets the leaves at ``positions [M]`` to ``values [M]``; of several for one leaf the last wins."""
        for some, of_them in zip(torch.split(positions, _AT_ONCE), torch.split(values, _AT_ONCE), strict=True):
            self._set(some, of_them)

    def _set(self, positions: Tensor, values: Tensor) -> None:
        values = torch.where(positions == self.nowhere, 0.0, values)
        # Of several writes to one place a GPU lets any win, so all of them write what the last one brings.
        ordered, order = positions.sort(stable=True)
        last = torch.searchsorted(ordered, ordered, right=True) - 1
        self._leaves.index_put_((ordered,), values[order[last]])
        nodes = ordered
        for level, above in pairwise(self._levels):
            nodes = nodes // self._branching
            above.view(-1).index_put_((nodes,), level.index_select(0, nodes).sum(1))

    def get(self, positions: Tensor) -> Tensor:
        """Returns the leaves at ``positions [M]``."""
        return self._leaves.index_select(0, positions)

    def find(self, targets: Tensor) -> Tensor:
        """Returns for each target in [0, ``total``), ``[M]``, the leaf in whose share of the total it lies, ``[M]``.

        A leaf of 0 is never found, also where rounding lets a target reach the end of a node.
        """
        nodes = torch.zeros_like(targets, dtype=torch.int64)  # the root, for all targets
        for level in reversed(self._levels):
            children = level.index_select(0, nodes)  # [M, branching]
            ends = children @ self._up_to
            below = torch.nextafter(ends[:, -1], torch.zeros_like(targets))
            targets = torch.minimum(targets, below)
            # The first whose end lies above; to argmax all of those are alike, and it may take any of them.
            beyond = (ends > targets[:, None]) & (children > 0.0)
            child = (beyond.cumsum(1) == 0).sum(1).clamp(max=self._branching - 1)
            before = ends.gather(1, (child - 1).clamp(min=0)[:, None])[:, 0]
            targets = targets - torch.where(child > 0, before, 0.0)
            nodes = nodes * self._branching + child
        return nodes
