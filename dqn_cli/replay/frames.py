"""Rings of single frames. An observation is a stack of frame ids; slot 0 is the blank frame.

Every frame of every environment is stored once, whatever the stack depth and the number of steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dqn_cli.core.errors import UsageError
from dqn_cli.core.types import Array

FrameIds = npt.NDArray[np.int32]

BLANK = 0
"""Id of the all-zero frame that pads the stacks at the start of an episode."""


class FrameStore(Protocol):
    """A bounded ring of frames, oldest overwritten first.

    Frames are numbered from 1 in the order of arrival; the numbers in [``oldest``, ``written``] are still there. The id
    of a frame is its slot: valid for as long as the frame lives.
    """

    @property
    def capacity(self) -> int:
        """Most frames that are there at once."""
        ...

    @property
    def oldest(self) -> int:
        """Number of the oldest frame that is still there, ``written + 1`` where none is."""
        ...

    @property
    def written(self) -> int:
        """Number of the newest frame, which is the count of frames ever appended."""
        ...

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, unpacked."""
        ...

    def append(self, frames: Array) -> FrameIds:
        """Stores ``frames [M, ...]``, M at most ``capacity``, and returns their ids ``[M]``."""
        ...

    def gather(self, ids: FrameIds) -> Tensor:
        """Returns ``[*ids.shape, ...]``, a fresh tensor where the frames are: in host memory, or on a device."""
        ...

    def export(self, first: int, last: int) -> Array:
        """Returns a copy of the frames numbered from ``first`` to ``last``, all of which must be there."""
        ...

    def restore(self, first: int, frames: Array) -> None:
        """Puts back frames that ``export(first, ...)`` returned, under the same numbers and ids.

        Raises:
            UsageError: They are of another shape or dtype.
        """
        ...


class DenseRing(ABC):
    """What dense rings share wherever their frames lie: counts, and ids in the order of slots.

    Args:
        capacity: Number of frames; one more slot holds the blank frame.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.written = 0

    @property
    def oldest(self) -> int:
        """Number of the oldest frame that is still there."""
        return max(1, self.written - self.capacity + 1)

    def append(self, frames: Array) -> FrameIds:
        """Stores ``frames [M, ...]`` and returns their ids ``[M]``."""
        ids = self._write(self.written + 1, frames)
        self.written += len(frames)
        return ids

    @abstractmethod
    def _write(self, first: int, frames: Array) -> FrameIds:
        """Puts ``frames`` numbered from ``first`` on into their slots, and returns their ids."""


class DenseHostFrames(DenseRing):
    """A dense ring in host memory.

    Args:
        capacity: Number of frames; one more slot holds the blank frame.
        shape: Shape of a frame.
        dtype: Dtype of a frame.
    """

    def __init__(self, capacity: int, shape: Sequence[int], dtype: np.dtype[np.generic]) -> None:
        super().__init__(capacity)
        # Zeroed pages are handed out by the system on first touch: an empty ring costs nothing.
        self._frames = np.zeros((capacity + 1, *shape), dtype=dtype)
        self.frame_bytes = self._frames[BLANK].nbytes

    def gather(self, ids: FrameIds) -> Tensor:
        """Returns ``[*ids.shape, ...]``, a fresh tensor."""
        return torch.from_numpy(np.asarray(self._frames.take(ids, axis=0)))

    def export(self, first: int, last: int) -> Array:
        """Returns a copy of the frames numbered from ``first`` to ``last``."""
        check_living(self, first, last)
        return self._frames[slots_of(first, last - first + 1, self.capacity)]

    def restore(self, first: int, frames: Array) -> None:
        """Puts back frames that ``export(first, ...)`` returned, under the same numbers and ids.

        Raises:
            UsageError: They are of another shape or dtype.
        """
        check_form(frames, self._frames.shape[1:], self._frames.dtype)
        self._write(first, frames)
        self.written = max(self.written, first + len(frames) - 1)

    def _write(self, first: int, frames: Array) -> FrameIds:
        ids = slots_of(first, len(frames), self.capacity)
        begin, end = (first - 1) % self.capacity + 1, (first - 1) % self.capacity + 1 + len(frames)
        # A slice is several times as quick as ids; those are needed where the ring begins anew.
        rows = slice(begin, end) if end <= self.capacity + 1 else ids
        self._frames[rows] = frames
        return ids


def slots_of(first: int, count: int, capacity: int) -> FrameIds:
    """Returns the ids of ``count`` frames numbered from ``first`` on, in a ring of ``capacity``."""
    if count > capacity:
        raise ValueError(f"{count} frames do not fit into a ring of {capacity}")
    begin = (first - 1) % capacity
    if begin + count <= capacity:
        return np.arange(begin + 1, begin + 1 + count, dtype=np.int32)
    return ((np.arange(begin, begin + count) % capacity) + 1).astype(np.int32)


def check_living(store: FrameStore, first: int, last: int) -> None:
    """Raises ``ValueError`` unless all frames numbered from ``first`` to ``last`` are there."""
    if not store.oldest <= first <= last <= store.written:
        raise ValueError(f"frames {first} to {last} are not there: the ring holds {store.oldest} to {store.written}")


def check_form(frames: Array, shape: Sequence[int], dtype: np.dtype[np.generic]) -> None:
    """Raises ``UsageError`` unless ``frames [M, ...]`` of a checkpoint are of ``shape`` and ``dtype``."""
    saved, own = f"{list(frames.shape[1:])} {frames.dtype}", f"{list(shape)} {dtype}"
    if saved != own:
        raise UsageError(f"env: the checkpoint has frames of {saved}, the config {own}; keep the run's environment")
