"""What each kind of sampler must do, from the definition alone: a plain table of all living items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from dqn_cli.core.types import FloatArray


class Oracle(Protocol):
    """Knows the chance of every living item."""

    @property
    def stratified(self) -> bool:
        """Whether draws are more even than chance."""
        ...

    def extend(self, tail: int, head: int) -> None:
        """Learns that exactly the keys in [``tail``, ``head``) are alive now."""
        ...

    def take(self, keys: Sequence[int], errors: Sequence[float]) -> None:
        """Learns the errors of items, living or not, one after the other."""
        ...

    def chances(self) -> FloatArray:
        """Returns the chance of each living item to be a single draw, ``[N]``, oldest first."""
        ...

    def exponent(self, step: int) -> float:
        """Returns beta at agent step ``step``: weights are (N P)^-beta, divided by their maximum over the batch."""
        ...


class UniformOracle:
    """Every living item is equally likely and weighs 1."""

    stratified = False

    def __init__(self) -> None:
        self._count = 0

    def extend(self, tail: int, head: int) -> None:
        """Learns how many items are alive."""
        self._count = head - tail

    def take(self, keys: Sequence[int], errors: Sequence[float]) -> None:
        """Forgets them: nothing depends on errors."""

    def chances(self) -> FloatArray:
        """Returns 1 / N for each of N, ``[N]``."""
        return np.full(self._count, 1.0 / self._count)

    def exponent(self, step: int) -> float:  # noqa: ARG002 as in `Oracle`
        """Returns 0."""
        return 0.0


class PrioritizedOracle:
    """P(i) = p_i^alpha / sum of all p_k^alpha with p_i = |delta_i| + eps (Schaul et al. 2016).

    A new item gets the largest p that ever arrived, that of an item that has left included; 1 at first.

    Args:
        options: Of the sampler: ``alpha``, ``beta`` with ``start``, ``end`` and ``over_steps``, ``eps``.
        total_steps: Agent steps of the run, over which beta moves where ``over_steps`` is null.
    """

    stratified = True

    def __init__(self, options: Any, total_steps: int) -> None:
        self._alpha, self._eps, self._beta = options.alpha, options.eps, options.beta
        self._over = options.beta.over_steps or total_steps
        self._priority: dict[int, float] = {}  # p, by key, oldest first
        self._largest = 1.0
        self._tail = self._head = 0

    def extend(self, tail: int, head: int) -> None:
        """Learns that exactly the keys in [``tail``, ``head``) are alive now."""
        for key in range(self._tail, tail):
            self._priority.pop(key, None)
        for key in range(max(tail, self._head), head):
            self._priority[key] = self._largest
        self._tail, self._head = tail, head

    def take(self, keys: Sequence[int], errors: Sequence[float]) -> None:
        """Learns |delta| of items, living or not, one after the other."""
        for key, error in zip(keys, errors, strict=True):
            self._largest = max(self._largest, error + self._eps)
            if key in self._priority:
                self._priority[key] = error + self._eps

    def chances(self) -> FloatArray:
        """Returns P(i) for each living item, ``[N]``, oldest first."""
        powers = np.array(list(self._priority.values())) ** self._alpha
        return np.asarray(powers / powers.sum())

    def exponent(self, step: int) -> float:
        """Returns beta, on a straight line from its start to its end."""
        return float(self._beta.start + (self._beta.end - self._beta.start) * min(1.0, step / self._over))


ORACLES: Mapping[str, Callable[[Any, int], Oracle]] = {
    "uniform": lambda _, total_steps: UniformOracle(),  # noqa: ARG005 every row takes the same
    "prioritized": PrioritizedOracle,
}
"""(options of the sampler, agent steps of the run) -> Oracle, by kind."""
