"""The learner: one gradient step from one batch."""

from __future__ import annotations

import torch
from torch import Tensor

from dqn_cli.agent.augmentation import Augmentations
from dqn_cli.agent.bootstrap import Bootstrap
from dqn_cli.agent.gradient_step import GradientStep
from dqn_cli.agent.objective import Objective
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
        bootstrap: Builds targets.
        objective: Measures the error.
        gradient_step: Optimiser of the online network's parameters.
        target_update: Moves the target network.
        augmentations: Change sampled observations.
        resets: Renews weights at intervals; None for never.
    """

    def __init__(
        self,
        online: QNetwork,
        target: QNetwork,
        bootstrap: Bootstrap,
        objective: Objective,
        gradient_step: GradientStep,
        target_update: TargetUpdate,
        augmentations: Augmentations,
        resets: WeightResets | None = None,
    ) -> None:
        self.online, self.target = online, target
        self._bootstrap, self._objective = bootstrap, objective
        self._gradient_step, self._target_update = gradient_step, target_update
        self._augmentations, self._resets = augmentations, resets
        for parameter in target.parameters():
            parameter.requires_grad_(False)
        self.updates = 0
        device = next(online.parameters()).device
        # Sums since the last report stay on the device: reading them would wait for it.
        self._sums = list(torch.zeros(2, device=device))
        self._summed = 0

    def update(self, batch: Batch, step: int) -> Tensor:
        """Learns from ``batch`` at agent step ``step`` and returns priorities ``[B]``, on the device."""
        self._target_update.before_update(self.online, self.target, step)
        self.online.resample()
        self.target.resample()
        batch = self._augmentations(batch)
        prediction = self.online(batch.observation).select(batch.action)
        with torch.no_grad():
            backup = self._bootstrap(self.online, self.target, batch)
        losses, priority = self._objective(prediction, backup)
        loss = (batch.weight * losses).mean()
        self._gradient_step(loss, step)
        self.updates += 1
        self._target_update.after_update(self.online, self.target, self.updates)
        if self._resets is not None:
            self._resets.after_update(self.online, self.target, self.updates, self._gradient_step)
        with torch.no_grad():
            torch._foreach_add_(self._sums, [loss.detach(), prediction.mean().mean()])
        self._summed += 1
        return priority

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
