"""The learner: from batches to gradient steps, and all that moves with them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from dqn_cli.agent.augmentation import Augmentations
from dqn_cli.agent.gradient import Gradient
from dqn_cli.agent.gradient_step import GradientStep
from dqn_cli.agent.resets import WeightResets
from dqn_cli.agent.targets import TargetUpdate
from dqn_cli.core.stateful import State, detached
from dqn_cli.core.types import Batch
from dqn_cli.networks.qnetwork import QNetwork


class Learner:
    """Holds the networks and applies updates.

    Args:
        online: The network that learns.
        target: Its slow copy.
        gradient: Of the loss of a batch.
        gradient_step: Optimiser of the online network's parameters.
        target_update: Moves the target network.
        augmentations: Change sampled observations.
        resets: Renews weights at intervals; None for never.
        arithmetic: Is entered for the time of each update.
    """

    def __init__(
        self,
        online: QNetwork,
        target: QNetwork,
        gradient: Gradient,
        gradient_step: GradientStep,
        target_update: TargetUpdate,
        augmentations: Augmentations,
        resets: WeightResets | None = None,
        arithmetic: AbstractContextManager[object] | None = None,
    ) -> None:
        self.online, self.target = online, target
        self._gradient, self._gradient_step, self._target_update = gradient, gradient_step, target_update
        self._augmentations, self._resets = augmentations, resets
        self._arithmetic = arithmetic or nullcontext()
        for parameter in target.parameters():
            parameter.requires_grad_(False)
        self.updates = 0
        # Sums since the last report stay on the device: reading them would wait for it.
        self._sums = list(torch.zeros(2, device=next(online.parameters()).device))
        self._summed = 0

    @property
    def most_at_once(self) -> int:
        """The most that ``at_once`` ever returns: more would not pay."""
        return self._gradient.most

    def at_once(self) -> int:
        """Returns how many updates can be one call of ``update`` now: until the target moves, or weights are reset."""
        steady = [self.most_at_once, self._target_update.steady(self.updates)]
        if self._resets is not None:
            steady.append(self._resets.steady(self.updates))
        return min(updates for updates in steady if updates is not None)

    def update(self, batch: Batch, step: int, count: int = 1) -> Tensor:
        """Learns at agent step ``step``.

        Args:
            batch: ``[count * B]``: the batches of all updates, one behind the other.
            step: The agent step.
            count: Number of updates, at most ``at_once()``.

        Returns:
            Priorities ``[count * B]``, on the device.

        Raises:
            ValueError: So many updates are not one call now.
        """
        if not 1 <= count <= self.at_once():
            raise ValueError(f"count must be 1 to {self.at_once()} now, got {count}")
        with self._arithmetic:
            self._target_update.before_update(self.online, self.target, step)
            self.online.resample()
            self.target.resample()
            measured = self._gradient(self._augmentations(batch), count, lambda: self._gradient_step(step))
            self.updates += count
            self._target_update.after_update(self.online, self.target, self.updates)
            if self._resets is not None:
                self._resets.after_update(self.online, self.target, self.updates, self._gradient_step)
            with torch.no_grad():
                torch._foreach_add_(self._sums, [measured.loss.sum(), measured.q_mean.sum()])
            self._summed += count
        return measured.priority

    def report(self) -> dict[str, float]:
        """Returns the mean loss and mean Q-value of the updates since the last report; empty without any.

        The Q-values are those of the actions in the batches.
        """
        if not self._summed:
            return {}
        loss, q_mean = (torch.stack(self._sums) / self._summed).tolist()
        torch._foreach_zero_(self._sums)
        self._summed = 0
        return {"loss": loss, "q_mean": q_mean}

    def is_finite(self) -> bool:
        """Returns whether losses, Q-values and parameters are finite numbers; waits for the device."""
        with torch.no_grad():
            sums = [*self._sums, *torch._foreach_norm(list(self.online.parameters()))]
            return bool(torch.isfinite(torch.stack(sums)).all())

    def state_dict(self) -> State:
        """Returns networks, optimiser, random streams, counters and sums."""
        return {
            "online": detached(self.online.state_dict()),
            "target": detached(self.target.state_dict()),
            "optimizer": self._gradient_step.state_dict(),
            "target_update": self._target_update.state_dict(),
            "streams": {name: generator.get_state() for name, generator in self._streams().items()},
            "updates": self.updates,
            "sums": torch.stack(self._sums),
            "summed": self._summed,
        }

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        self._gradient_step.load_state_dict(state["optimizer"])
        self._target_update.load_state_dict(state["target_update"])
        for name, generator in self._streams().items():
            generator.set_state(state["streams"][name])
        self.updates = int(state["updates"])
        torch._foreach_copy_(self._sums, list(state["sums"]))
        self._summed = int(state["summed"])

    def _streams(self) -> dict[str, torch.Generator]:
        return {
            "online": self.online.generator,
            "target": self.target.generator,
            "augmentation": self._augmentations.generator,
        }
