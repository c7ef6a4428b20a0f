"""The table of items: what can be sampled, about 50 bytes each, beside the frames they point to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from dqn_cli.core.errors import UsageError
from dqn_cli.core.stateful import State
from dqn_cli.core.types import IntArray
from dqn_cli.replay.frames import FrameIds


@dataclass(frozen=True, slots=True)
class Items:
    """M transitions of one or several steps.

    Attributes:
        stack: ``[M, S]`` frame ids of the observation, oldest first.
        next_stack: ``[M, S]`` frame ids of the observation k steps later.
        action: ``[M]``.
        reward: ``[M]`` float32, sum of gamma^i r_i over k steps.
        discount: ``[M]`` float32, gamma^k, or 0 when terminal.
    """

    stack: FrameIds
    next_stack: FrameIds
    action: npt.NDArray[np.int32]
    reward: npt.NDArray[np.float32]
    discount: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """Returns M."""
        return len(self.action)


class ItemCopy(Protocol):
    """Holds what a table holds, elsewhere."""

    def write(self, begin: int, items: Items) -> None:
        """Takes over ``items`` at the positions from ``begin`` on, around the ring's end."""
        ...


class ItemTable:
    """A ring of items. Keys are item numbers from 0 on; those in [``tail``, ``head``) are alive.

    Args:
        capacity: Most items alive at once.
        stack: Stack depth S.
        copy: Is told of all that is written; None: nobody is.
    """

    def __init__(self, capacity: int, stack: int, copy: ItemCopy | None = None) -> None:
        self.capacity, self.stack, self._copy = capacity, stack, copy
        self.tail = 0
        self.head = 0
        self._stack = np.zeros((capacity, stack), np.int32)
        self._next_stack = np.zeros((capacity, stack), np.int32)
        self._action = np.zeros(capacity, np.int32)
        self._reward = np.zeros(capacity, np.float32)
        self._discount = np.zeros(capacity, np.float32)
        self._oldest_frame = np.zeros(capacity, np.int64)

    def __len__(self) -> int:
        """Returns the number of items alive."""
        return self.head - self.tail

    def append(self, items: Items, oldest_frame: int) -> None:
        """Adds items none of which refers to a frame older than number ``oldest_frame``.

        ``oldest_frame`` must not decrease from call to call: then items also leave in the order of their keys.
        """
        begin, count = self.head % self.capacity, len(items)
        # A slice is several times as quick as positions; those are needed where the ring begins anew.
        whole = begin + count <= self.capacity
        rows = slice(begin, begin + count) if whole else np.arange(begin, begin + count) % self.capacity
        self._write(begin, rows, items)
        self._oldest_frame[rows] = oldest_frame
        self.head += len(items)
        self.tail = max(self.tail, self.head - self.capacity)

    def expire(self, oldest_living_frame: int) -> None:
        """Drops every item that may refer to a frame older than ``oldest_living_frame``."""
        while self.tail < self.head and self._oldest_frame[self.tail % self.capacity] < oldest_living_frame:
            self.tail += 1

    def gather(self, keys: IntArray) -> Items:
        """Returns the items with the given living ``keys [M]``."""
        positions = keys % self.capacity
        return Items(
            stack=self._stack[positions],
            next_stack=self._next_stack[positions],
            action=self._action[positions],
            reward=self._reward[positions],
            discount=self._discount[positions],
        )

    def largest_reward(self) -> float:
        """Returns the largest absolute reward of the living items, 0 where there is none."""
        begin, end = self.tail % self.capacity, (self.head - 1) % self.capacity + 1
        whole = len(self) == 0 or begin < end
        parts = [self._reward[begin:end]] if whole else [self._reward[begin:], self._reward[:end]]
        return max(float(np.abs(part).max(initial=0.0)) for part in parts) if len(self) else 0.0

    def export(self, first: int) -> State:
        """Returns the living items with keys from ``first`` on, as tensors."""
        keys = np.arange(max(first, self.tail), self.head)
        positions = keys % self.capacity
        items = self.gather(keys)
        return {
            "first": int(keys[0]) if len(keys) else self.head,
            "stack": torch.from_numpy(items.stack),
            "next_stack": torch.from_numpy(items.next_stack),
            "action": torch.from_numpy(items.action),
            "reward": torch.from_numpy(items.reward),
            "discount": torch.from_numpy(items.discount),
            "oldest_frame": torch.from_numpy(self._oldest_frame[positions]),
        }

    def restore(self, exported: State) -> None:
        """Puts back what ``export`` returned, under the same keys; ``tail`` and ``head`` are set by the owner.

        Raises:
            UsageError: The items are of another stack depth.
        """
        saved, own = exported["stack"].shape[1], self._stack.shape[1]
        if saved != own:
            raise UsageError(f"env.stack: the checkpoint has {saved}, the config {own}; set env.stack={saved}")
        first = int(exported["first"])
        count = len(exported["action"])
        keep = slice(max(0, count - self.capacity), count)
        positions = np.arange(first, first + count)[keep] % self.capacity
        items = Items(
            stack=exported["stack"].numpy()[keep],
            next_stack=exported["next_stack"].numpy()[keep],
            action=exported["action"].numpy()[keep],
            reward=exported["reward"].numpy()[keep],
            discount=exported["discount"].numpy()[keep],
        )
        self._write(int(positions[0]) if len(positions) else 0, positions, items)
        self._oldest_frame[positions] = exported["oldest_frame"].numpy()[keep]

    def _write(self, begin: int, rows: slice | IntArray, items: Items) -> None:
        self._stack[rows] = items.stack
        self._next_stack[rows] = items.next_stack
        self._action[rows] = items.action
        self._reward[rows] = items.reward
        self._discount[rows] = items.discount
        if self._copy is not None:
            self._copy.write(begin, items)


def item_bytes(stack: int) -> int:
    """Returns the memory of one item with stack depth ``stack``, in bytes."""
    return 2 * 4 * stack + 4 + 4 + 4 + 8
