"""A dense ring of frames in the memory of a GPU, or of any other device of torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dqn_cli.core.devices import copy_into, to_device, to_host
from dqn_cli.core.types import Array
from dqn_cli.replay.frames import BLANK, DenseRing, FrameIds, check_form, check_living, slots_of


class DenseDeviceFrames(DenseRing):
    """A dense ring on ``device``: batches are gathered where they are used, and frames cross to it once.

    Nothing waits for the device but ``export``. The memory is taken at once: what does not fit fails at the start.

    Args:
        capacity: Number of frames; one more slot holds the blank frame.
        shape: Shape of a frame.
        dtype: Dtype of a frame.
        device: Where the ring lies.
    """

    def __init__(self, capacity: int, shape: Sequence[int], dtype: np.dtype[np.generic], device: torch.device) -> None:
        super().__init__(capacity)
        self._shape, self._dtype, self._device = tuple(shape), dtype, device
        self.frame_bytes = math.prod(self._shape) * dtype.itemsize
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        self._frames = torch.zeros((capacity + 1, *shape), dtype=kind, device=device)

    def gather(self, ids: FrameIds | Tensor) -> Tensor:
        """Returns ``[*ids.shape, ...]`` on the device, a fresh tensor; ids may be there already."""
        places = to_device(np.asarray(ids) if not isinstance(ids, Tensor) else ids, self._device)
        return self._frames.index_select(0, places.reshape(-1)).view((*places.shape, *self._shape))

    def export(self, first: int, last: int) -> Array:
        """Returns a copy of the frames numbered from ``first`` to ``last``, in host memory."""
        check_living(self, first, last)
        frames = np.empty((last - first + 1, *self._shape), self._dtype)
        for slots, rows in self._pieces(first, len(frames)):
            frames[rows] = to_host(self._frames[slots])
        return frames

    def restore(self, first: int, frames: Array) -> None:
        """Puts back frames that ``export(first, ...)`` returned, under the same numbers and ids.

        Raises:
            UsageError: They are of another shape or dtype.
        """
        check_form(frames, self._shape, self._dtype)
        self._write(first, frames)
        self.written = max(self.written, first + len(frames) - 1)

    def _write(self, first: int, frames: Array) -> FrameIds:
        ids = slots_of(first, len(frames), self.capacity)
        frames = np.require(frames, self._dtype, ["C", "W"])  # torch takes nothing that is read-only
        for slots, rows in self._pieces(first, len(frames)):
            copy_into(self._frames[slots], frames[rows])
        return ids

    def _pieces(self, first: int, count: int) -> Iterator[tuple[slice, slice]]:
        """Yields slots, and which of ``count`` frames numbered from ``first`` on lie there: runs that do not wrap."""
        begin = (first - 1) % self.capacity
        before = min(count, self.capacity - begin)
        yield slice(BLANK + 1 + begin, BLANK + 1 + begin + before), slice(before)
        if before < count:
            yield slice(BLANK + 1, BLANK + 1 + count - before), slice(before, count)
