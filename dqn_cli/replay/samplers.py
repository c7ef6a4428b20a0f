"""Which items a batch is made of. Samplers know keys, not frames, and never reject."""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

import numpy as np
from torch import Tensor

from dqn_cli.core.options import Options
from dqn_cli.core.rng import generator_state, load_generator_state
from dqn_cli.core.stateful import State
from dqn_cli.core.types import FloatArray, IntArray, Keys


class Sampler(Protocol):
    """Draws keys of living items; ``Stateful`` beside.

    Attributes:
        blind: Whether ``reprioritize`` changes nothing, so that several batches may be drawn as one.
    """

    blind: bool

    def extend(self, tail: int, head: int) -> None:
        """Learns that exactly the keys in [``tail``, ``head``) are alive now."""
        ...

    def sample(self, batch_size: int, step: int) -> tuple[Keys, FloatArray | Tensor]:
        """Returns keys ``[B]`` and importance weights ``[B]`` at agent step ``step``; at least one item must live."""
        ...

    def probabilities(self, keys: IntArray) -> FloatArray:
        """Returns for each of the living ``keys [M]`` its chance to be a single draw, ``[M]``."""
        ...

    def reprioritize(self, keys: Keys, priority: Tensor) -> None:
        """Takes over new priorities ``[B]``; keys that have left are ignored."""
        ...

    def state_dict(self) -> State:
        """Returns the whole state."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        ...


class UniformOptions(Options):
    """Every living item is equally likely."""

    kind: Literal["uniform"] = "uniform"
    bytes_per_item: ClassVar[float] = 0.0


class UniformSampler:
    """Every living item is equally likely, with replacement (Mnih et al. 2015).

    Args:
        rng: The stream that the draws come from.
    """

    blind = True

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._tail = 0
        self._head = 0

    def extend(self, tail: int, head: int) -> None:
        """Learns that exactly the keys in [``tail``, ``head``) are alive now."""
        self._tail, self._head = tail, head

    def sample(self, batch_size: int, step: int) -> tuple[IntArray, FloatArray]:  # noqa: ARG002 as in `Sampler`
        """Returns keys ``[B]`` and weights of 1, at any agent step."""
        return self._rng.integers(self._tail, self._head, batch_size), np.ones(batch_size)

    def probabilities(self, keys: IntArray) -> FloatArray:
        """Returns 1 / N for each of the living ``keys [M]``, ``[M]``."""
        return np.full(len(keys), 1.0 / (self._head - self._tail))

    def reprioritize(self, keys: Keys, priority: Tensor) -> None:
        """Does nothing: there are no priorities."""

    def state_dict(self) -> State:
        """Returns the stream's state and the living range."""
        return {"rng": generator_state(self._rng), "tail": self._tail, "head": self._head}

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        load_generator_state(self._rng, state["rng"])
        self._tail, self._head = int(state["tail"]), int(state["head"])
