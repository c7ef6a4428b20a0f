"""From gradients to changed parameters: limit of their norm, step size, optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from dqn_cli.agent.optimizers import limit_norm
from dqn_cli.core.stateful import State, detached


class Optimizes(Protocol):
    """What a step needs of an optimiser: ours and torch's have it."""

    param_groups: list[dict[str, Any]]
    state: Any

    def step(self) -> Any:
        """Moves the parameters against the gradients that they carry."""
        ...

    def state_dict(self) -> State:
        """Returns settings and moments."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Takes over what ``state_dict`` returned."""
        ...


class GradientStep:
    """One step of an optimiser; ``Stateful``.

    Args:
        parameters: What learns.
        optimizer: Optimiser of them.
        max_norm: The gradient is scaled down to this norm; None for no limit.
        rate_factor: Factor of the optimiser's step size as a function of agent steps; None for always 1.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: Optimizes,
        max_norm: float | None = None,
        rate_factor: Callable[[int], float] | None = None,
    ) -> None:
        self._parameters, self._optimizer = parameters, optimizer
        self._max_norm, self._rate_factor = max_norm, rate_factor
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]

    def __call__(self, step: int) -> None:
        """Takes a step, at agent step ``step``, against the gradients that the parameters carry."""
        if self._max_norm is not None:
            limit_norm(self._parameters, self._max_norm)
        if self._rate_factor is not None:
            factor = self._rate_factor(step)
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor
        self._optimizer.step()
        # Torch counts changes of a tensor, but not those of its fused kernels; copies in bfloat16 go by that count.
        torch.autograd.graph.increment_version(self._parameters)

    def forget(self, parameters: Iterable[nn.Parameter]) -> None:
        """Drops the optimiser's moments of ``parameters``, which are other numbers now."""
        for parameter in parameters:
            self._optimizer.state.pop(parameter, None)

    def state_dict(self) -> State:
        """Returns the optimiser's state."""
        state: State = detached(self._optimizer.state_dict())
        return state

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        self._optimizer.load_state_dict(detached(state))  # torch would go on with the tensors it is given
