"""Defects of what lives on a device: frames, items, priorities, and the way between."""

from __future__ import annotations

from tests.mutants.defect import Defect

DEVICE_FRAMES, DEVICE_ITEMS = "dqn_cli/replay/device_frames.py", "dqn_cli/replay/device_items.py"
DEVICE_PRIORITIZED, DEVICE_SUM_TREE = "dqn_cli/replay/device_prioritized.py", "dqn_cli/replay/device_sum_tree.py"

DEVICE_DEFECTS = (
    Defect(
        "the blank frame of a device overwritten",
        DEVICE_FRAMES,
        "yield slice(BLANK + 1, BLANK + 1 + count - before)",
        "yield slice(BLANK, BLANK + count - before)",
        "tests/replay/test_frames.py",
    ),
    Defect(
        "items of a device stay what they were behind the ring's end",
        DEVICE_ITEMS,
        "copy_into(column[: len(values) - before], values[before:])",
        "pass",
        "tests/replay/test_device_prioritized.py",
    ),
    Defect(
        "observation and successor swapped on a device",
        DEVICE_ITEMS,
        "torch.cat((whole[:, : self.stack], whole[:, self.stack : -1]))",
        "torch.cat((whole[:, self.stack : -1], whole[:, : self.stack]))",
        "tests/replay/test_device_prioritized.py",
    ),
    Defect(
        "late priorities go to the items that came after, on a device",
        DEVICE_PRIORITIZED,
        "living = known & (keys >= self._tail) & (keys < self._head)",
        "living = known",
        "tests/replay/test_device_prioritized.py",
    ),
    Defect(
        "the largest priority of the latest batch for the largest seen, on a device",
        DEVICE_PRIORITIZED,
        "self._maximum = torch.maximum(self._maximum, priorities.max())",
        "self._maximum = priorities.max()",
        "tests/replay/test_device_prioritized.py",
    ),
    Defect(
        "an empty leaf of a device found by rounding",
        DEVICE_SUM_TREE,
        "targets = torch.minimum(targets, below)",
        "pass",
        "tests/replay/test_device_sum_tree.py",
    ),
    Defect(
        "what goes nowhere counts",
        DEVICE_SUM_TREE,
        "values = torch.where(positions == self.nowhere, 0.0, values)",
        "pass",
        "tests/replay/test_device_sum_tree.py",
    ),
)
