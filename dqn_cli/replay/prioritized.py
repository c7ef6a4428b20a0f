"""Prioritized replay, the proportional variant of Schaul et al. 2016."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from dqn_cli.core.devices import to_host
from dqn_cli.core.errors import DivergedError, UsageError
from dqn_cli.core.options import Fraction, Options, PositiveCount, PositiveFloat
from dqn_cli.core.rng import generator_state, load_generator_state
from dqn_cli.core.stateful import State
from dqn_cli.core.types import FloatArray, IntArray, Keys
from dqn_cli.replay.sum_tree import BRANCHING, SumTree


class BetaOptions(Options):
    """The exponent of the importance weights, which moves along a straight line."""

    start: Fraction = Field(0.4, description="Beta at the first step.")
    end: Fraction = Field(1.0, description="Beta after ``over_steps``; 1 corrects in full.")
    over_steps: PositiveCount | None = Field(None, description="Agent steps until then; null: total_steps.")


class PrioritizedOptions(Options):
    """Items with a large error are drawn more often, and weigh less."""

    kind: Literal["prioritized"] = "prioritized"
    bytes_per_item: ClassVar[float] = 8.0 * BRANCHING / (BRANCHING - 1)
    alpha: Fraction = Field(0.5, description="Exponent of the priorities; 0 draws all alike.")
    beta: BetaOptions = Field(BetaOptions(), description="Exponent of the importance weights.")
    eps: PositiveFloat = Field(1e-6, description="Added to each priority, so that none is zero.")


class PrioritizedSampler:
    """Item i is drawn with chance P(i) = p_i^alpha / sum of all p_k^alpha, where p_i = |delta_i| + eps.

    A new item gets the largest p that ever arrived, at first 1; one of an item that has left counts too, since the size
    of errors is known from it no less. A batch has one draw from each of B equal slices of the sum (Appendix B.2.1).
    Its weights are (N P(i))^-beta, divided by their maximum over the batch (section 3.4).

    Args:
        capacity: Most items alive at once.
        alpha: Exponent of the priorities.
        beta: Exponent of the weights as a function of agent steps.
        eps: Added to each priority.
        rng: The stream that the draws come from.
    """

    blind = False

    def __init__(
        self, capacity: int, alpha: float, beta: Callable[[int], float], eps: float, rng: np.random.Generator
    ) -> None:
        self._capacity, self._alpha, self._beta, self._eps, self._rng = capacity, alpha, beta, eps, rng
        self._tail = 0
        self._head = 0
        self._maximum = 1.0
        self._tree = SumTree(capacity)  # p^alpha; the leaf of a key is its remainder

    def extend(self, tail: int, head: int) -> None:
        """Learns that exactly the keys in [``tail``, ``head``) are alive now; neither end ever decreases."""
        if head - tail > self._capacity:
            raise ValueError(f"{head - tail} items are alive, there is room for {self._capacity}")
        gone = np.arange(self._tail, min(tail, self._head))
        born = np.arange(max(tail, self._head), head)
        values = np.zeros(len(gone) + len(born))
        values[len(gone) :] = self._maximum**self._alpha
        # A new key may have the leaf of one that is gone: it comes later, so it wins.
        self._tree.set(np.concatenate((gone, born)) % self._capacity, values)
        self._tail, self._head = tail, head

    def sample(self, batch_size: int, step: int) -> tuple[IntArray, FloatArray]:
        """Returns keys ``[B]`` and importance weights ``[B]`` at agent step ``step``; at least one item must live."""
        slices = np.arange(batch_size) + self._rng.random(batch_size)
        positions = self._tree.find(slices * (self._tree.total / batch_size))
        # N and the sum are the same for the whole batch, so they go when the weights are divided by their maximum.
        values = self._tree.get(positions)
        return self._tail + (positions - self._tail) % self._capacity, (values.min() / values) ** self._beta(step)

    def probabilities(self, keys: IntArray) -> FloatArray:
        """Returns P(i) for each of the living ``keys [M]``, ``[M]``."""
        return self._tree.get(keys % self._capacity) / self._tree.total

    def reprioritize(self, keys: Keys, priority: torch.Tensor) -> None:
        """Takes over |delta| ``[B]`` of the items ``keys [B]``, of several for one key the last.

        Keys that have left are ignored.

        Raises:
            DivergedError: A priority is negative or not finite.
        """
        errors: FloatArray = priority.detach().to("cpu", torch.float64).numpy()
        wrong = errors[~(np.isfinite(errors) & (errors >= 0.0))]
        if len(wrong):
            raise diverged(f"the loss of an item is {wrong[0]}, no finite number of at least 0")
        keys = to_host(keys)
        priorities = errors + self._eps
        self._maximum = float(priorities.max(initial=self._maximum))
        living = (keys >= self._tail) & (keys < self._head)
        self._tree.set(keys[living] % self._capacity, priorities[living] ** self._alpha)

    def state_dict(self) -> State:
        """Returns the stream's state, the living range, the largest p and p^alpha of the living items."""
        return {
            "rng": generator_state(self._rng),
            "tail": self._tail,
            "head": self._head,
            "maximum": self._maximum,
            "priorities": torch.from_numpy(self._tree.get(self._living())),
        }

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned.

        Raises:
            UsageError: The state is of another sampler, or damaged.
        """
        check_sampler_state(state, self._capacity)
        load_generator_state(self._rng, state["rng"])
        self._tail, self._head, self._maximum = state["tail"], state["head"], state["maximum"]
        self._tree = SumTree(self._capacity)
        self._tree.set(self._living(), state["priorities"].detach().numpy())

    def _living(self) -> IntArray:
        """Returns the leaves of the living keys, oldest first."""
        return np.arange(self._tail, self._head) % self._capacity


def diverged(why: str) -> DivergedError:
    """Returns the end of a run whose losses are none any more."""
    return DivergedError(f"training has diverged: {why}; lower learning.optimizer.lr, or set learning.max_grad_norm")


def check_sampler_state(state: State, capacity: int) -> None:
    """Raises ``UsageError`` unless ``state`` is one of a sampler of that capacity."""
    tail, head = state.get("tail"), state.get("head")
    if not (type(tail) is int and type(head) is int and 0 <= tail <= head <= tail + capacity):
        problem = f"living items from {tail} to {head}, the config room for {capacity}"
    elif not _positive(state.get("priorities"), head - tail):
        problem = f"no {head - tail} priorities above 0"
    elif not (type(maximum := state.get("maximum")) is float and 1.0 <= maximum < math.inf):
        problem = f"a largest priority of {maximum}"
    else:
        return
    raise UsageError(f"replay.sampler: the checkpoint has {problem}; it is damaged or of another sampler")


def _positive(values: Any, count: int) -> bool:
    """Returns whether ``values`` are ``count`` finite float64 numbers above 0, there to be read."""
    return (
        isinstance(values, torch.Tensor)
        and (values.dtype, values.layout, values.device.type) == (torch.float64, torch.strided, "cpu")
        and values.shape == (count,)
        and bool((torch.isfinite(values) & (values > 0.0)).all())
    )
