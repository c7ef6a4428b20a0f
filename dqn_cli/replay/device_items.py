"""What items say, once more in the memory of the device that reads it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dqn_cli.core.devices import copy_into
from dqn_cli.replay.items import Items


class DeviceItems:
    """A copy of an item table's columns on ``device``, so that a batch of keys that are there never leaves it.

    Args:
        capacity: Most items alive at once.
        stack: Stack depth S.
        device: Where the copy lies.
    """

    def __init__(self, capacity: int, stack: int, device: torch.device) -> None:
        self.capacity, self.stack = capacity, stack
        # In two tensors, so that a vector step is two copies: ids of both stacks with the action, and what is real.
        self._whole = torch.zeros(capacity, 2 * stack + 1, dtype=torch.int32, device=device)
        self._real = torch.zeros(capacity, 2, device=device)

    def write(self, begin: int, items: Items) -> None:
        """Takes over ``items`` at the positions from ``begin`` on, around the ring's end; the last ones stay."""
        whole = np.concatenate((items.stack, items.next_stack, items.action[:, None]), axis=1)
        real = np.stack((items.reward, items.discount), axis=1)
        surplus = max(0, len(items) - self.capacity)
        begin = (begin + surplus) % self.capacity
        for column, values in ((self._whole, whole[surplus:]), (self._real, real[surplus:])):
            before = min(len(values), self.capacity - begin)
            copy_into(column[begin : begin + before], values[:before])
            if before < len(values):
                copy_into(column[: len(values) - before], values[before:])

    def gather(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns ids of both stacks ``[2M, S]``, and action, reward, discount ``[M]`` of the items ``keys [M]``."""
        positions = keys % self.capacity
        whole, real = self._whole.index_select(0, positions), self._real.index_select(0, positions)
        stacks = torch.cat((whole[:, : self.stack], whole[:, self.stack : -1]))
        return stacks, whole[:, -1].to(torch.int64), real[:, 0], real[:, 1]


def device_item_bytes(stack: int) -> int:
    """Returns the memory of the copy of one item with stack depth ``stack``, in bytes."""
    return 4 * (2 * stack + 1) + 4 * 2
