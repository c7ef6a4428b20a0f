"""Rings of single frames. An observation is a stack of frame ids; slot 0 is the blank frame.

Every frame of every environment is stored once, whatever the stack depth and the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dqn_cli.core.errors import UsageError
from dqn_cli.core.types import Array

FrameIds = npt.NDArray[np.int32]

BLANK = 0
"""Id of the all-zero frame that pads the stacks at the start of an episode."""


class FrameStore(Protocol):
    """A bounded ring of frames, oldest overwritten first.

    Frames are numbered from 1 in the order of arrival; the numbers in (``written - capacity``, ``written``] are
    still there. The id of a frame is its slot: valid for as long as the frame lives.
    """

    @property
    def capacity(self) -> int:
        """Number of frames that fit."""
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

    def gather(self, ids: FrameIds) -> Array:
        """Returns ``[*ids.shape, ...]``, a fresh array."""
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


class DenseHostFrames:
    """A dense ring in host memory.

    Args:
        capacity: Number of frames; one more slot holds the blank frame.
        shape: Shape of a frame.
        dtype: Dtype of a frame.
    """

    def __init__(self, capacity: int, shape: Sequence[int], dtype: np.dtype[np.generic]) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.written = 0
        # Zeroed pages are handed out by the system on first touch: an empty ring costs nothing.
        self._frames = np.zeros((capacity + 1, *shape), dtype=dtype)
        self.frame_bytes = self._frames[BLANK].nbytes

    def append(self, frames: Array) -> FrameIds:
        """Stores ``frames [M, ...]`` and returns their ids ``[M]``."""
        ids = self._write(self.written + 1, frames)
        self.written += len(frames)
        return ids

    def gather(self, ids: FrameIds) -> Array:
        """Returns ``[*ids.shape, ...]``, a fresh array."""
        return self._frames.take(ids, axis=0)

    def export(self, first: int, last: int) -> Array:
        """Returns a copy of the frames numbered from ``first`` to ``last``."""
        oldest = max(1, self.written - self.capacity + 1)
        if not oldest <= first <= last <= self.written:
            raise ValueError(f"frames {first} to {last} are not there: the ring holds {oldest} to {self.written}")
        return self._frames[self._slots(first, last - first + 1)]

    def restore(self, first: int, frames: Array) -> None:
        """Puts back frames that ``export(first, ...)`` returned, under the same numbers and ids.

        Raises:
            UsageError: They are of another shape or dtype.
        """
        saved, own = (f"{list(f.shape[1:])} {f.dtype}" for f in (frames, self._frames))
        if saved != own:
            raise UsageError(f"env: the checkpoint has frames of {saved}, the config {own}; keep the run's environment")
        self._write(first, frames)
        self.written = max(self.written, first + len(frames) - 1)

    def _write(self, first: int, frames: Array) -> FrameIds:
        if len(frames) > self.capacity:
            raise ValueError(f"{len(frames)} frames do not fit into a ring of {self.capacity}")
        ids = self._slots(first, len(frames))
        self._frames[ids] = frames
        return ids

    def _slots(self, first: int, count: int) -> FrameIds:
        return ((np.arange(first - 1, first - 1 + count) % self.capacity) + 1).astype(np.int32)
