"""Replay on disk: each checkpoint writes only the frames and items that are new since the last one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import lz4.block
import numpy as np
import torch

from dqn_cli.core.errors import RunError
from dqn_cli.core.files import Fingerprint, write_durably
from dqn_cli.core.loading import load_plain, refusing
from dqn_cli.core.stateful import State
from dqn_cli.core.types import Array
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.frames import FrameStore

SEGMENT_BYTES = 1 << 26
"""Of frames in a segment, unpacked: what a checkpoint takes beside the replay is a small multiple of it.

Before a checkpoint is due, new frames are written whenever there are as many."""


_BLOCK_BYTES = 1 << 22
"""Of frames that are packed at once: fresh memory for larger ones costs more than to unpack them."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment file that is on the disk."""

    name: str
    last_frame: int
    fingerprint: Fingerprint


class ReplaySegments:
    """The folder of segment files of one run.

    A segment holds a run of consecutive frames, packed with LZ4. Those that are written at once are a group, and the
    items emitted since the group before are in its last segment: it stays for as long as any of them lives, since none
    outlives its frames.

    Args:
        folder: Where the segments lie; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._saved: list[_Segment] = []  # oldest first
        self._next_frame = 1
        self._next_key = 0

    def stream(self, replay: Replay) -> bool:
        """Writes what is new if it fills a segment, and returns whether: the next checkpoint finds little to do.

        Raises:
            RunError: The disk is full or fails otherwise.
        """
        if (replay.frames.written - self._next_frame + 1) * replay.frames.frame_bytes < SEGMENT_BYTES:
            return False
        self._write_new(replay)
        return True

    def save(self, replay: Replay) -> dict[str, Fingerprint]:
        """Writes what is new; returns names and fingerprints of all segments that the replay's state needs.

        Raises:
            RunError: The disk is full or fails otherwise, or a segment is gone.
        """
        self._write_new(replay)
        for segment in self._saved:  # somebody may have deleted what the next manifest would name
            if not (self._folder / segment.name).exists():
                raise RunError(f"{self._folder / segment.name} is gone: it was deleted while the run went on")
        return {segment.name: segment.fingerprint for segment in self._saved}

    def _write_new(self, replay: Replay) -> None:
        frames, items_head = replay.frames, replay.items.head
        oldest = frames.oldest
        begin, end = max(self._next_frame, oldest), frames.written
        if end >= self._next_frame:
            self._folder.mkdir(exist_ok=True)  # in the run's folder, which must be there
            step = max(1, SEGMENT_BYTES // frames.frame_bytes)
            pieces = max(1, (end - begin + 1) // step)  # the last one takes what is left over
            for first in range(begin, begin + pieces * step, step):
                last = end if first + 2 * step - 1 > end else first + step - 1
                items = replay.items.export(self._next_key if last == end else items_head)
                self._write(first, last, _pack(frames, first, last) | {"items": items})
            self._next_key = items_head
        self._saved = [segment for segment in self._saved if segment.last_frame >= oldest]

    def load(self, replay: Replay, segments: Mapping[str, Fingerprint]) -> None:
        """Restores frames and items from ``segments``; ``Replay.load_state_dict`` comes after.

        Raises:
            UsageError: A segment is missing, damaged, or of another replay.
        """
        self._saved = []
        for name in sorted(segments):  # numbers of frames, so that this is their order
            content = load_plain(self._folder / name)
            with refusing(f"{self._folder / name} is damaged: it is no segment of this replay"):
                self._next_frame = int(content["first_frame"])
                for frames in _unpack(content):
                    replay.frames.restore(self._next_frame, frames)
                    self._next_frame += len(frames)
                replay.items.restore(content["items"])
                self._next_key = int(content["items"]["first"]) + len(content["items"]["action"])
            self._saved.append(_Segment(name, self._next_frame - 1, segments[name]))

    def _write(self, first: int, last: int, content: State) -> None:
        name = f"{first:012d}-{last:012d}.segment"
        written = write_durably(self._folder / name, lambda file: torch.save({"first_frame": first, **content}, file))
        self._saved.append(_Segment(name, last, written))
        self._next_frame = last + 1

    def prune(self, needed: Iterable[str]) -> None:
        """Deletes the segments that neither a kept checkpoint needs nor the next one will."""
        keep = {*needed, *(segment.name for segment in self._saved)}
        for path in self._folder.glob("*.segment"):
            if path.name not in keep:
                path.unlink()


def _pack(store: FrameStore, first: int, last: int) -> State:
    """Returns the frames numbered from ``first`` to ``last``, packed in blocks."""
    step, blocks = max(1, _BLOCK_BYTES // store.frame_bytes), []
    for begin in range(first, last + 1, step):
        frames = np.ascontiguousarray(store.export(begin, min(begin + step - 1, last)))
        blocks.append(lz4.block.compress(frames.data))
    return {
        "packed": torch.frombuffer(bytearray(b"".join(blocks)), dtype=torch.uint8),
        "blocks": [len(block) for block in blocks],
        "shape": list(frames.shape[1:]),
        "dtype": frames.dtype.str,
    }


def _unpack(content: State) -> Iterator[Array]:
    """Yields the frames of a segment, block by block.

    Raises:
        ValueError: The blocks are not what was packed; no more memory is taken than for one of them.
    """
    packed, dtype, shape = content["packed"].numpy().data, np.dtype(content["dtype"]), tuple(content["shape"])
    frame_bytes, end = math.prod(shape) * dtype.itemsize, 0
    for length in content["blocks"]:
        block, end = packed[end : end + length], end + length
        size = int.from_bytes(block[:4], "little")
        if len(block) != length or size > max(_BLOCK_BYTES, frame_bytes) or size % frame_bytes:
            raise ValueError("the packed frames are not as many as their shape says")
        try:
            yield cast("Array", np.frombuffer(lz4.block.decompress(block), dtype).reshape(-1, *shape))
        except lz4.block.LZ4BlockError as error:
            raise ValueError(str(error)) from error
