"""Replay on disk: each checkpoint writes only the frames and items that are new since the last one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import lz4.block
import numpy as np
import torch

from dqn_cli.core.files import write_durably
from dqn_cli.core.stateful import State
from dqn_cli.core.types import Array
from dqn_cli.replay.buffer import Replay

_SEGMENT_BYTES = 1 << 26
"""Of frames in a segment, unpacked: what a checkpoint takes beside the replay is a small multiple of it."""


class ReplaySegments:
    """The folder of segment files of one run.

    A segment holds a run of consecutive frames, packed with LZ4. The items emitted since the checkpoint before are in
    the last segment of a checkpoint: it stays for as long as any of them lives, since none outlives its frames.

    Args:
        folder: Where the segments lie; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._saved: list[tuple[str, int]] = []  # name and last frame, oldest first
        self._next_frame = 1
        self._next_key = 0

    def save(self, replay: Replay) -> list[str]:
        """Writes what is new and returns the names of all segments that the replay's state needs."""
        frames, items_head = replay.frames, replay.items.head
        oldest = max(1, frames.written - frames.capacity + 1)
        begin, end = max(self._next_frame, oldest), frames.written
        if end >= self._next_frame:
            self._folder.mkdir(parents=True, exist_ok=True)
            step = max(1, _SEGMENT_BYTES // frames.export(begin, begin).nbytes)
            for first in range(begin, end + 1, step):
                last = min(first + step - 1, end)
                items = replay.items.export(self._next_key if last == end else items_head)
                self._write(first, last, _pack(frames.export(first, last)) | {"items": items})
            self._next_key = items_head
        self._saved = [(name, last) for name, last in self._saved if last >= oldest]
        return [name for name, _ in self._saved]

    def load(self, replay: Replay, names: Iterable[str]) -> None:
        """Restores frames and items from the segments ``names``; ``Replay.load_state_dict`` comes after."""
        self._saved = []
        for name in names:
            content: State = torch.load(self._folder / name, weights_only=True)
            frames = _unpack(content)
            first = int(content["first_frame"])
            replay.frames.restore(first, frames)
            replay.items.restore(content["items"])
            last = first + len(frames) - 1
            self._saved.append((name, last))
            self._next_frame = last + 1
            self._next_key = int(content["items"]["first"]) + len(content["items"]["action"])

    def _write(self, first: int, last: int, content: State) -> None:
        name = f"{first:012d}-{last:012d}.segment"
        write_durably(self._folder / name, lambda file: torch.save({"first_frame": first, **content}, file))
        self._saved.append((name, last))
        self._next_frame = last + 1

    def prune(self, needed: Iterable[str]) -> None:
        """Deletes the segments that no kept checkpoint needs."""
        keep = set(needed)
        for path in self._folder.glob("*.segment"):
            if path.name not in keep:
                path.unlink()


def _pack(frames: Array) -> State:
    packed = lz4.block.compress(np.ascontiguousarray(frames).data)
    return {
        "packed": torch.frombuffer(bytearray(packed), dtype=torch.uint8),
        "shape": list(frames.shape),
        "dtype": frames.dtype.str,
    }


def _unpack(content: State) -> Array:
    raw = lz4.block.decompress(content["packed"].numpy().data)
    return cast("Array", np.frombuffer(raw, dtype=np.dtype(content["dtype"])).reshape(content["shape"]))
