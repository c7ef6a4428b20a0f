"""A quick way to gradients that is taken once it has given what the plain way gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dqn_cli.agent.gradient import Gradient, Measured
from dqn_cli.core.captured import TOLERANCE
from dqn_cli.core.types import Batch


class ComparedGradient:
    """Takes a quick way to gradients, unless it differs from the plain one on the first batch.

    Then the plain way is taken from there on, and it is said. Neither way may draw random numbers.

    Args:
        quick: The way that is compared.
        plain: The one that it is compared with.
        parameters: Of the online network.
        tell: Is told in what they differ.
    """

    def __init__(
        self, quick: Gradient, plain: Gradient, parameters: Sequence[Tensor], tell: Callable[[str], None]
    ) -> None:
        self._chosen: Gradient | None = None
        self._quick, self._plain, self._parameters, self._tell = quick, plain, list(parameters), tell
        self.most = quick.most

    def __call__(self, batch: Batch, count: int, descend: Callable[[], None]) -> Measured:
        """Goes through the ``count`` batches in ``batch``, as the protocol says."""
        if self._chosen is None:
            self._choose(batch.part(0, count))
        assert self._chosen is not None
        if count <= self._chosen.most:
            return self._chosen(batch, count, descend)
        # Asked for in one call before it was known that the plain way takes fewer.
        parts = [self._chosen(batch.part(number, count), 1, descend) for number in range(count)]
        return Measured(
            torch.cat([part.loss for part in parts]),
            torch.cat([part.q_mean for part in parts]),
            torch.cat([part.priority for part in parts]),
        )

    def _choose(self, batch: Batch) -> None:
        """Compares both ways on one batch; waits for the device, and leaves no gradient behind."""
        expected, found = self._measured(self._plain, batch), self._measured(self._quick, batch)
        problem = difference(found, expected)
        if problem is None:
            self._chosen = self._quick
            return
        self._tell(f"updates: written out, {problem}; gradients are found by autograd")
        self._chosen, self.most = self._plain, self._plain.most

    def _measured(self, gradient: Gradient, batch: Batch) -> list[Tensor]:
        measured = gradient(batch, 1, lambda: None)
        found = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None  # each way has memory of its own for them
        missing = torch.zeros((), device=measured.loss.device)
        return [measured.loss, measured.priority, *(missing if grad is None else grad for grad in found)]


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> str | None:
    """Returns in what a loss, priorities and gradients differ from those expected, or None.

    What is small beside the rest may be what is left of sums that cancel, and so all rounding: a hundredth of the
    largest number of all gradients counts as the size of any.
    """
    names = ("the loss", "the priority", *(f"gradient {number}" for number in range(len(expected) - 2)))
    largest = max((float(theirs.abs().max()) for theirs in expected[2:]), default=0.0)
    for number, (name, ours, theirs) in enumerate(zip(names, found, expected, strict=True)):
        if ours.shape != theirs.shape:
            return f"{name} has shape {tuple(ours.shape)} for {tuple(theirs.shape)}"
        size = max(float(theirs.abs().max()), 0.01 * largest if number >= 2 else 0.0)
        error = float((ours - theirs).abs().max())
        if not error <= TOLERANCE * size + torch.finfo(torch.float32).tiny:
            return f"{name} is off by {error:.3g} where the largest number is {size:.3g}"
    return None
