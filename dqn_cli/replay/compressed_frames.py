"""A ring of frames that are packed one by one: a quarter of the memory and less, for a millisecond a batch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import cast

import lz4.block
import numpy as np
import torch
from torch import Tensor

from dqn_cli.core.types import Array
from dqn_cli.replay.frames import FrameIds, check_form, check_living, slots_of

_CHUNK_BYTES, _CHUNK_FRAMES = 1 << 18, 16
"""Of the arena that are freed at once: so many bytes, and frames that do not pack."""

_SLOT_BYTES = 8 + 4
"""Offset and length of a packed frame."""


class CompressedHostFrames:
    """A ring in host memory of frames that are packed with LZ4, each by itself, in one arena of bytes.

    The oldest frames leave when there are ``capacity`` of them or when the packed ones take more than ``budget`` bytes.
    Which ones live follows from the frames alone: it is the longest run of newest frames that fits both, wherever the
    arena has put them. So it is the same after a resume.

    The arena is cut into chunks. A chunk is free again when its last frame has left, and the one that was freed last is
    filled next: pages that were never needed are never touched, and frames that pack well leave them to the system.

    Args:
        capacity: Most frames; one more slot holds the blank frame.
        shape: Shape of a frame.
        dtype: Dtype of a frame.
        budget: Most bytes of packed frames; at least those of one that cannot be packed, `packed_bound`.
    """

    def __init__(self, capacity: int, shape: Sequence[int], dtype: np.dtype[np.generic], budget: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._shape, self._dtype = tuple(shape), dtype
        self.frame_bytes = math.prod(self._shape) * dtype.itemsize
        bound = packed_bound(self.frame_bytes)
        if budget < bound:
            raise ValueError(f"the budget must be at least {bound} bytes, got {budget}")
        self.capacity, self._budget = capacity, budget
        self.written, self.oldest = 0, 1
        self.packed_bytes = 0  # of the living frames
        self._chunk_bytes, chunks = _chunks(budget, self.frame_bytes)
        # Zeroed pages are handed out by the system on first touch.
        self._arena = np.zeros(chunks * self._chunk_bytes, np.uint8).data
        self._offset = np.zeros(capacity + 1, np.int64)
        self._length = np.zeros(capacity + 1, np.int32)  # 0: blank
        self._free = list(range(chunks - 1, -1, -1))
        self._full: deque[tuple[int, int]] = deque()  # chunks behind which another was begun, and their last frame
        self._begin(self._free.pop())

    def append(self, frames: Array) -> FrameIds:
        """Stores ``frames [M, ...]`` and returns their ids ``[M]``."""
        ids = slots_of(self.written + 1, len(frames), self.capacity)
        self._write(ids, frames)
        return ids

    def gather(self, ids: FrameIds) -> Tensor:
        """Returns ``[*ids.shape, ...]``, a fresh tensor; a frame that is asked for twice is unpacked once."""
        return torch.from_numpy(np.asarray(self._unpacked(ids)))

    def _unpacked(self, ids: FrameIds) -> Array:
        different, places = np.unique(ids, return_inverse=True)
        arena, size = self._arena, self.frame_bytes
        unpacked = np.zeros(len(different) * size, np.uint8)
        rows, at = unpacked.data, 0
        for begin, length in zip(self._offset[different].tolist(), self._length[different].tolist(), strict=True):
            if length:
                rows[at : at + size] = lz4.block.decompress(arena[begin : begin + length], size)
            at += size
        frames = unpacked.view(self._dtype).reshape(len(different), *self._shape)
        return cast("Array", frames.take(places.reshape(np.shape(ids)), axis=0))

    def export(self, first: int, last: int) -> Array:
        """Returns a copy of the frames numbered from ``first`` to ``last``."""
        check_living(self, first, last)
        return self._unpacked(slots_of(first, last - first + 1, self.capacity))

    def restore(self, first: int, frames: Array) -> None:
        """Puts back frames that ``export(first, ...)`` returned, under the same numbers and ids, oldest first.

        Raises:
            UsageError: They are of another shape or dtype.
            ValueError: They do not follow those that are there.
        """
        check_form(frames, self._shape, self._dtype)
        ids = slots_of(first, len(frames), self.capacity)
        if self.written == 0:
            self.written, self.oldest = first - 1, first
        if first != self.written + 1:
            raise ValueError(f"frame {first} does not follow frame {self.written}")
        self._write(ids, frames)

    def _write(self, ids: FrameIds, frames: Array) -> None:
        rows = np.ascontiguousarray(frames, self._dtype).reshape(len(frames), math.prod(self._shape))
        for slot, row in zip(ids.tolist(), rows, strict=True):
            packed = lz4.block.compress(row, store_size=False)
            while self.written - self.oldest + 1 >= self.capacity or self.packed_bytes + len(packed) > self._budget:
                self._forget()
            self.written += 1
            if self._next + len(packed) > self._end:
                self._full.append((self._chunk, self.written - 1))
                self._release()
                self._begin(self._free.pop())
            self._arena[self._next : self._next + len(packed)] = packed
            self._offset[slot], self._length[slot] = self._next, len(packed)
            self._next += len(packed)
            self.packed_bytes += len(packed)

    def _forget(self) -> None:
        """Lets the oldest frame go."""
        self.packed_bytes -= int(self._length[(self.oldest - 1) % self.capacity + 1])
        self.oldest += 1
        self._release()

    def _release(self) -> None:
        """Frees the chunks that hold no living frame."""
        while self._full and self._full[0][1] < self.oldest:
            self._free.append(self._full.popleft()[0])

    def _begin(self, chunk: int) -> None:
        self._chunk = chunk
        self._next = chunk * self._chunk_bytes
        self._end = self._next + self._chunk_bytes


def packed_bound(frame_bytes: int) -> int:
    """Returns the most bytes that a packed frame can take (LZ4 block format, worst case)."""
    return frame_bytes + frame_bytes // 255 + 16


def compressed_bytes(frames: int, frame_bytes: int, budget: int) -> int:
    """Returns the memory of a full compressed ring of ``frames`` slots, in bytes, at most."""
    chunk_bytes, chunks = _chunks(budget, frame_bytes)
    return chunk_bytes * chunks + _SLOT_BYTES * frames


def _chunks(budget: int, frame_bytes: int) -> tuple[int, int]:
    """Returns size and number of the chunks that hold any living frames whose packed bytes are within ``budget``.

    A chunk is full because the next frame did not fit: all but less than one frame's bound of it are used. Of the
    oldest a single frame may be left, and the newest has just been begun.
    """
    bound = packed_bound(frame_bytes)
    chunk_bytes = min(max(_CHUNK_BYTES, _CHUNK_FRAMES * bound), budget + bound)
    return chunk_bytes, -(-budget // (chunk_bytes - bound + 1)) + 2
