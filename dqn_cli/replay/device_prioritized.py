"""Prioritized replay without the host: draws, weights and priorities stay on the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dqn_cli.core.devices import to_device, to_host
from dqn_cli.core.rng import generator_state, load_generator_state
from dqn_cli.core.stateful import State
from dqn_cli.core.types import Array, FloatArray, IntArray
from dqn_cli.replay.device_sum_tree import DeviceSumTree
from dqn_cli.replay.prioritized import check_sampler_state, diverged


class DevicePrioritizedSampler:
    """`PrioritizedSampler` on ``device``: the same formulas, the same random numbers, states that fit both.

    Nothing but ``state_dict`` and ``probabilities`` waits for the device. Hence what is no error, which there ends the
    run at once, is left out here, and ends it when the state is saved.

    Args:
        capacity: Most items alive at once.
        alpha: Exponent of the priorities.
        beta: Exponent of the weights as a function of agent steps.
        eps: Added to each priority.
        rng: The stream that the draws come from, on the host.
        device: Where priorities live.
    """

    blind = False

    def __init__(
        self,
        capacity: int,
        alpha: float,
        beta: Callable[[int], float],
        eps: float,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        self._capacity, self._alpha, self._beta, self._eps, self._rng = capacity, alpha, beta, eps, rng
        self._device = device
        self._tail = 0
        self._head = 0
        self._maximum = torch.ones((), dtype=torch.float64, device=device)
        self._wrong = torch.zeros((), dtype=torch.int64, device=device)  # priorities that were none
        self._tree = DeviceSumTree(capacity, device)  # p^alpha; the leaf of a key is its remainder

    def extend(self, tail: int, head: int) -> None:
        """Learns that exactly the keys in [``tail``, ``head``) are alive now; neither end ever decreases."""
        if head - tail > self._capacity:
            raise ValueError(f"{head - tail} items are alive, there is room for {self._capacity}")
        gone = self._range(self._tail, min(tail, self._head))
        born = self._range(max(tail, self._head), head)
        # A new key may have the leaf of one that is gone: it comes later, so it wins.
        fresh = (self._maximum**self._alpha).expand(len(born))
        values = torch.cat((torch.zeros_like(gone, dtype=torch.float64), fresh))
        self._tree.set(torch.cat((gone, born)) % self._capacity, values)
        self._tail, self._head = tail, head

    def sample(self, batch_size: int, step: int) -> tuple[Tensor, Tensor]:
        """Returns keys ``[B]`` and importance weights ``[B]`` at agent step ``step``, on the device.

        Raises:
            ValueError: No item lives.
        """
        if self._tail == self._head:
            raise ValueError("no item lives: there is nothing to find")
        slices = to_device(np.arange(batch_size) + self._rng.random(batch_size), self._device)
        positions = self._tree.find(slices * (self._tree.total / batch_size))
        # N and the sum are the same for the whole batch, so they go when the weights are divided by their maximum.
        values = self._tree.get(positions)
        return self._tail + (positions - self._tail) % self._capacity, (values.min() / values) ** self._beta(step)

    def probabilities(self, keys: IntArray) -> FloatArray:
        """Returns P(i) for each of the living ``keys [M]``, ``[M]``; waits for the device."""
        chances = self._tree.get(to_device(keys % self._capacity, self._device)) / self._tree.total
        return to_host(chances).astype(np.float64)

    def reprioritize(self, keys: Array | Tensor, priority: Tensor) -> None:
        """Takes over |delta| ``[B]`` of the items ``keys [B]``, of several for one key the last.

        Keys that have left are ignored, and so is what is negative or not finite, until the state is saved.
        """
        keys = to_device(keys, self._device)
        errors = to_device(priority.detach(), self._device, torch.float64)
        known = torch.isfinite(errors) & (errors >= 0.0)
        self._wrong += (~known).sum()
        priorities = torch.where(known, errors, 0.0) + self._eps
        self._maximum = torch.maximum(self._maximum, priorities.max())
        living = known & (keys >= self._tail) & (keys < self._head)
        self._tree.set(torch.where(living, keys % self._capacity, self._tree.nowhere), priorities**self._alpha)

    def state_dict(self) -> State:
        """Returns the stream's state, the living range, the largest p and p^alpha of the living items.

        Raises:
            DivergedError: A priority was negative or not finite.
        """
        if wrong := int(self._wrong):
            raise diverged(f"the losses of {wrong} items were no finite numbers of at least 0")
        return {
            "rng": generator_state(self._rng),
            "tail": self._tail,
            "head": self._head,
            "maximum": float(self._maximum),
            "priorities": self._tree.get(self._range(self._tail, self._head) % self._capacity).cpu(),
        }

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned, or that of a `PrioritizedSampler`.

        Raises:
            UsageError: The state is of another sampler, or damaged.
        """
        check_sampler_state(state, self._capacity)
        load_generator_state(self._rng, state["rng"])
        self._tail, self._head = state["tail"], state["head"]
        self._maximum.fill_(state["maximum"])
        self._wrong.zero_()
        self._tree = DeviceSumTree(self._capacity, self._device)
        living = self._range(self._tail, self._head) % self._capacity
        self._tree.set(living, to_device(state["priorities"].detach(), self._device))

    def _range(self, first: int, end: int) -> Tensor:
        return torch.arange(first, max(first, end), device=self._device)
