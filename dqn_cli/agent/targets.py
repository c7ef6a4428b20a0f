"""How the target network follows the online network."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from pydantic import Field, model_validator
from torch import nn

from dqn_cli.core.options import Options, PositiveCount
from dqn_cli.core.stateful import State


class TargetUpdate(Protocol):
    """Moves the target network; ``Stateful`` beside."""

    def before_update(self, online: nn.Module, target: nn.Module, step: int) -> None:
        """Is called before updates, with the agent step at which they are made."""
        ...

    def after_update(self, online: nn.Module, target: nn.Module, updates: int) -> None:
        """Is called after one update, or several among which it was steady, with the count of all so far."""
        ...

    def steady(self, updates: int) -> int | None:
        """Returns after how many more than ``updates`` updates the target moves next; None: not until the next step."""
        ...

    def state_dict(self) -> State:
        """Returns the whole state."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        ...


class PeriodicOptions(Options):
    """A copy at fixed intervals, counted in updates or in agent steps."""

    kind: Literal["periodic"] = "periodic"
    every_updates: PositiveCount | None = Field(None, description="Gradient updates between two copies.")
    every_steps: PositiveCount | None = Field(None, description="Agent steps between two copies.")

    @model_validator(mode="after")
    def _one_unit(self) -> PeriodicOptions:
        if (self.every_updates is None) == (self.every_steps is None):
            raise ValueError("set exactly one of every_updates and every_steps, the other to null")
        return self


class PolyakOptions(Options):
    """The target moves by a fraction of the distance after each update."""

    kind: Literal["polyak"] = "polyak"
    tau: float = Field(0.005, gt=0.0, le=1.0, description="Fraction of the distance.")


def copy_parameters(source: nn.Module, destination: nn.Module) -> None:
    """Copies parameters and buffers."""
    destination.load_state_dict(source.state_dict())


class PeriodicByUpdates:
    """A copy after every ``every`` updates (Mnih et al. 2015, parameter C)."""

    def __init__(self, every: int) -> None:
        self._every = every
        self.copies = 0

    def before_update(self, online: nn.Module, target: nn.Module, step: int) -> None:
        """Does nothing: the interval is counted in updates."""

    def after_update(self, online: nn.Module, target: nn.Module, updates: int) -> None:
        """Copies if ``updates`` is a multiple of the interval."""
        if updates % self._every == 0:
            copy_parameters(online, target)
            self.copies += 1

    def steady(self, updates: int) -> int:
        """Returns the updates that are left until the next copy."""
        return self._every - updates % self._every

    def state_dict(self) -> State:
        """Returns the count of copies."""
        return {"copies": self.copies}

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        self.copies = int(state["copies"])


class PeriodicBySteps:
    """A copy whenever the agent steps pass a multiple of ``every``.

    The copy is made just before the first update after that: the online network has not changed in between, so it
    is the copy that would have been made at the step itself.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._periods = 0
        self.copies = 0

    def before_update(self, online: nn.Module, target: nn.Module, step: int) -> None:
        """Copies if a multiple of the interval was passed since the last copy."""
        if step // self._every > self._periods:
            self._periods = step // self._every
            copy_parameters(online, target)
            self.copies += 1

    def after_update(self, online: nn.Module, target: nn.Module, updates: int) -> None:
        """Does nothing: the interval is counted in steps."""

    def steady(self, updates: int) -> None:
        """Returns None: no update moves the target, only a step."""

    def state_dict(self) -> State:
        """Returns the counts."""
        return {"periods": self._periods, "copies": self.copies}

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        self._periods, self.copies = int(state["periods"]), int(state["copies"])


class Polyak:
    """target += tau * (online - target) after each update (Lillicrap et al. 2016)."""

    def __init__(self, tau: float) -> None:
        self._tau = tau

    def before_update(self, online: nn.Module, target: nn.Module, step: int) -> None:
        """Does nothing."""

    @torch.no_grad()
    def after_update(self, online: nn.Module, target: nn.Module, updates: int) -> None:  # noqa: ARG002 the protocol
        """Moves the parameters of the target and copies the buffers that belong to its state."""
        torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), self._tau)
        source, parameters = online.state_dict(), dict(target.named_parameters())
        for name, tensor in target.state_dict().items():
            if name not in parameters:
                tensor.copy_(source[name])

    def steady(self, updates: int) -> int:  # noqa: ARG002 the protocol
        """Returns 1: each update moves the target."""
        return 1

    def state_dict(self) -> State:
        """Returns nothing: there is no state."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Takes over nothing."""
