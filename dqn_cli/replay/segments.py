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

_CHUNK_BYTES = 1 << 26  # an LZ4 block holds less than 2 GiB


class ReplaySegments:
    """The folder of segment files of one run.

    A segment holds a run of consecutive frames, packed with LZ4, and the items emitted meanwhile.

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
        frames, items = replay.frames, replay.items
        oldest = max(1, frames.written - frames.capacity + 1)
        if frames.written >= self._next_frame:
            first = max(self._next_frame, oldest)
            name = f"{first:012d}-{frames.written:012d}.segment"
            content = {"first_frame": first, **_pack(frames.export(first)), "items": items.export(self._next_key)}
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(self._folder / name, lambda file: torch.save(content, file))
            self._saved.append((name, frames.written))
            self._next_frame, self._next_key = frames.written + 1, items.head
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

    def prune(self, needed: Iterable[str]) -> None:
        """Deletes the segments that no kept checkpoint needs."""
        keep = set(needed)
        for path in self._folder.glob("*.segment"):
            if path.name not in keep:
                path.unlink()


def _pack(frames: Array) -> State:
    per_chunk = max(1, _CHUNK_BYTES // max(1, frames[:1].nbytes))
    chunks = [
        torch.frombuffer(bytearray(lz4.block.compress(frames[i : i + per_chunk].tobytes())), dtype=torch.uint8)
        for i in range(0, len(frames), per_chunk)
    ]
    return {"chunks": chunks, "shape": list(frames.shape), "dtype": frames.dtype.str}


def _unpack(content: State) -> Array:
    raw = b"".join(lz4.block.decompress(chunk.numpy().tobytes()) for chunk in content["chunks"])
    return cast("Array", np.frombuffer(raw, dtype=np.dtype(content["dtype"])).reshape(content["shape"]))
