"""Times the sum tree of prioritized replay for several numbers of children a node; see decision 0006.

    python benchmarks/sum_tree.py

Trees over a million leaves take turns in one process; each figure is a median over the turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from dqn_cli.replay.sum_tree import SumTree

LEAVES = 1_000_000
CHILDREN = (2, 32, 64, 128)
BATCHES = (32, 256)
TURNS = 300


def microseconds(work: Callable[[], object]) -> float:
    """Returns how long ``work`` takes."""
    begun = time.perf_counter()
    work()
    return 1e6 * (time.perf_counter() - begun)


def main() -> None:
    """Fills the trees and takes turns."""
    rng = np.random.default_rng(0)
    trees = {children: SumTree(LEAVES, children) for children in CHILDREN}
    for tree in trees.values():
        tree.set(np.arange(LEAVES), rng.random(LEAVES))
    for batch in BATCHES:
        times: dict[int, list[float]] = {children: [] for children in CHILDREN}
        for _ in range(TURNS):
            targets, positions, values = rng.random(batch), rng.integers(LEAVES, size=batch), rng.random(batch)
            for children, tree in trees.items():
                found = microseconds(lambda: tree.find(targets * tree.total))  # noqa: B023 used in this turn
                times[children].append(found + microseconds(lambda: tree.set(positions, values)))  # noqa: B023
        medians = ", ".join(f"{children} children {statistics.median(times[children]):.0f}" for children in CHILDREN)
        print(f"find and set {batch} of {LEAVES:,} leaves, microseconds: {medians}")


if __name__ == "__main__":
    main()
