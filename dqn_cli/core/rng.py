"""Named random streams: every consumer of randomness owns one, derived from the run's seed."""

from __future__ import annotations

import zlib
from typing import Any, cast

import numpy as np
import torch

from dqn_cli.core.stateful import State


def _sequence(seed: int, name: str, indices: tuple[int, ...]) -> np.random.SeedSequence:
    # crc32, not hash(): the same in every process.
    return np.random.SeedSequence([seed, zlib.crc32(name.encode()), *indices])


def stream(seed: int, name: str, *indices: int) -> np.random.Generator:
    """Returns the stream ``name`` of a run; streams of other names or indices are independent of it."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, name, indices)))


def derive_seed(seed: int, name: str, *indices: int) -> int:
    """Returns a seed in [0, 2^31) for something that takes an integer (an emulator, torch)."""
    return int(_sequence(seed, name, indices).generate_state(1, np.uint64)[0] >> np.uint64(33))


def torch_stream(seed: int, name: str, device: torch.device | None = None) -> torch.Generator:
    """Returns a torch generator for the stream ``name``, on the CPU unless a device is given."""
    # What is built without memory draws nothing, and there is no generator for it.
    generator = torch.Generator("cpu" if device is None or device.type == "meta" else device)
    generator.manual_seed(derive_seed(seed, name))
    return generator


def generator_state(generator: np.random.Generator) -> State:
    """Returns the state of a PCG64 generator as plain Python values."""
    return cast("State", dict(generator.bit_generator.state))


def load_generator_state(generator: np.random.Generator, state: dict[str, Any]) -> None:
    """Restores what ``generator_state`` returned."""
    generator.bit_generator.state = state
