"""From keys to batches: in host memory and then to the device, or on the device from the start."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dqn_cli.core.devices import to_device, to_host
from dqn_cli.core.types import Batch, FloatArray, Keys
from dqn_cli.replay.device_frames import DenseDeviceFrames
from dqn_cli.replay.device_items import DeviceItems
from dqn_cli.replay.frames import FrameStore
from dqn_cli.replay.items import ItemTable


class Batches(Protocol):
    """Puts together what the items of a batch say."""

    def __call__(self, keys: Keys, weights: FloatArray | Tensor) -> Batch:
        """Returns the batch of the living items ``keys [B]`` with ``weights [B]``, on the device that learns."""
        ...


class HostBatches:
    """Reads items and frames in host memory and copies them.

    Args:
        frames: Where frames live.
        items: Table of items.
        device: Where batches are put.
    """

    def __init__(self, frames: FrameStore, items: ItemTable, device: torch.device) -> None:
        self._frames, self._items, self._device = frames, items, device

    def __call__(self, keys: Keys, weights: FloatArray | Tensor) -> Batch:
        """Returns the batch of ``keys [B]``."""
        items = self._items.gather(to_host(keys))
        # One gather for both sides: they lie side by side in one tensor.
        both = to_device(self._frames.gather(np.concatenate((items.stack, items.next_stack))), self._device)
        return Batch(
            observation=both[: len(keys)],
            action=to_device(items.action, self._device, torch.int64),
            reward=to_device(items.reward, self._device),
            discount=to_device(items.discount, self._device),
            next_observation=both[len(keys) :],
            weight=to_device(weights, self._device, torch.float32),
            key=keys,
        )


class DeviceBatches:
    """Reads items and frames on the device: keys and weights are all that crosses to it, where they are not there yet.

    Args:
        frames: Where frames live.
        items: What items say, on the same device.
        device: That device.
    """

    def __init__(self, frames: DenseDeviceFrames, items: DeviceItems, device: torch.device) -> None:
        self._frames, self._items, self._device = frames, items, device

    def __call__(self, keys: Keys, weights: FloatArray | Tensor) -> Batch:
        """Returns the batch of ``keys [B]``."""
        stacks, action, reward, discount = self._items.gather(to_device(keys, self._device))
        both = self._frames.gather(stacks)
        weight = to_device(weights, self._device, torch.float32)
        return Batch(both[: len(keys)], action, reward, discount, both[len(keys) :], weight, keys)
