"""What a Gymnasium space means to a Q-network: how observations are stored, how many actions there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gymnasium import Space, spaces

from dqn_cli.core.errors import UsageError
from dqn_cli.core.types import Array, ObservationSpec

Encoder = Callable[[Array], Array]
"""Turns raw observations ``[N, ...]`` into storable frames ``[N, *frame shape]``; may return its argument."""

MAX_ACTIONS = 1 << 16
"""Actions are logged in at most two bytes."""

_STORED_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "float32")
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class ObservationEncoding:
    """How the observations of a space are stored.

    Attributes:
        spec: One frame, with a stack of 1.
        encode: The encoder for a batch of raw observations.
    """

    spec: ObservationSpec
    encode: Encoder


def observation_encoding(space: Space[object], name: str) -> ObservationEncoding:
    """Returns how observations of ``space`` are stored.

    Args:
        space: The observation space of one environment.
        name: The environment, for error messages.

    Raises:
        UsageError: The space has no fixed-size array form; the message names the wrapper that helps.
    """
    match space:
        case spaces.Box():
            return _box(space)
        case spaces.Discrete():
            return _one_hot(np.array([space.n]), np.array([space.start]))
        case spaces.MultiDiscrete():
            return _one_hot(space.nvec.reshape(-1), space.start.reshape(-1))
        case spaces.MultiBinary():
            spec = ObservationSpec(space.shape, np.dtype(np.uint8), stack=1, scale=1.0)
            return ObservationEncoding(spec, lambda raw: raw.astype(np.uint8))
        case _:
            raise UsageError(f"environment '{name}': observation space {space} is not supported; {_advice(space)}")


def code_bounds(space: Space[object]) -> tuple[Array, Array] | None:
    """Returns the least and the greatest value that has a code, each in the shape of the space; None for a Box.

    A value outside of them would become a code of zeros alone, which looks like no observation at all.
    """
    match space:
        case spaces.Discrete():
            return np.array(space.start), np.array(space.start + space.n - 1)
        case spaces.MultiDiscrete():
            return space.start, space.start + space.nvec - 1
        case spaces.MultiBinary():
            return np.zeros(space.shape, np.int8), np.ones(space.shape, np.int8)
        case _:
            return None


def discrete_actions(space: Space[object], name: str) -> tuple[int, int]:
    """Returns the number of actions A and the environment's own number of action 0.

    Args:
        space: The action space of one environment.
        name: The environment, for error messages.

    Raises:
        UsageError: The space is not ``Discrete``, or too large to log.
    """
    match space:
        case spaces.Discrete() if space.n <= MAX_ACTIONS:
            return int(space.n), int(space.start)
        case spaces.Discrete():
            reason = f"more than {MAX_ACTIONS} actions; choose an environment with fewer"
        case spaces.Box():
            reason = "continuous actions; DQN needs discrete actions: add DiscretizeAction to env.wrappers"
        case spaces.MultiDiscrete() | spaces.MultiBinary():
            reason = (
                f"{type(space).__name__} actions; DQN needs one Discrete action: write a wrapper that numbers"
                " the combinations and add it to env.wrappers as 'module:ClassName'"
            )
        case _:
            reason = (
                f"{type(space).__name__} actions; DQN needs one Discrete action: wrap it, with env.wrappers"
                " as 'module:ClassName'"
            )
    raise UsageError(f"environment '{name}': action space {space} has {reason}")


def _box(space: spaces.Box) -> ObservationEncoding:
    is_pixels = space.dtype == np.uint8 and len(space.shape) >= 2 and bool(np.all(space.high == 255))
    dtype = space.dtype if space.dtype.name in _STORED_DTYPES else np.dtype(np.float32)
    shape = space.shape or (1,)
    channel_last = len(shape) == 3 and shape[-1] in _CHANNELS and shape[0] not in _CHANNELS
    if channel_last:
        shape = (shape[2], shape[0], shape[1])

    def encode(raw: Array) -> Array:
        if channel_last:
            raw = np.moveaxis(raw, -1, 1)
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused as such
            return np.ascontiguousarray(raw, dtype=dtype).reshape(-1, *shape)

    needs_work = channel_last or not space.shape or dtype != space.dtype
    spec = ObservationSpec(tuple(shape), np.dtype(dtype), stack=1, scale=1 / 255 if is_pixels else 1.0)
    return ObservationEncoding(spec, encode if needs_work else _identity)


def _identity(raw: Array) -> Array:
    return raw


def _one_hot(sizes: Array, starts: Array) -> ObservationEncoding:
    """Concatenated one-hot codes of the values ``starts[k]`` to ``starts[k] + sizes[k] - 1``."""
    # Position p of the code says whether component owner[p] has the value value[p].
    owner = np.repeat(np.arange(len(sizes)), sizes.tolist())
    value = np.concatenate([start + np.arange(size) for start, size in zip(starts, sizes, strict=True)])

    def encode(raw: Array) -> Array:
        flat = raw.reshape(len(raw), -1)
        code: Array = (flat[:, owner] == value).view(np.uint8)
        return code

    return ObservationEncoding(ObservationSpec((len(owner),), np.dtype(np.uint8), stack=1, scale=1.0), encode)


def _advice(space: Space[object]) -> str:
    if isinstance(space, spaces.Dict | spaces.Tuple) and space.is_np_flattenable:
        return "add the wrapper FlattenObservation to env.wrappers"
    return (
        f"a {type(space).__name__} has no fixed-size array form: add a wrapper that returns a Box to"
        " env.wrappers as 'module:ClassName'"
    )
