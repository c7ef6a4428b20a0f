"""The learner: one gradient step from one batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dqn_cli.agent.bootstrap import Bootstrap
from dqn_cli.agent.objective import Objective
from dqn_cli.agent.optimizers import limit_norm
from dqn_cli.agent.targets import TargetUpdate
from dqn_cli.core.stateful import State, detached
from dqn_cli.core.types import Batch
from dqn_cli.networks.qnetwork import QNetwork


class Learner:
    """Holds the networks and the optimiser and applies updates.

    Args:
        online: The network that learns.
        target: Its slow copy.
        optimizer: Optimiser of the online network's parameters.
        bootstrap: Builds targets.
        objective: Measures the error.
        target_update: Moves the target network.
        max_grad_norm: The gradient is scaled down to this norm; None for no limit.
        rate_factor: Factor of the optimiser's step size as a function of agent steps; None for always 1.
    """

    def __init__(
        self,
        online: QNetwork,
        target: QNetwork,
        optimizer: torch.optim.Optimizer,
        bootstrap: Bootstrap,
        objective: Objective,
        target_update: TargetUpdate,
        max_grad_norm: float | None,
        rate_factor: Callable[[int], float] | None = None,
    ) -> None:
        self.online, self.target = online, target
        self._optimizer, self._target_update = optimizer, target_update
        self._bootstrap, self._objective = bootstrap, objective
        self._max_grad_norm, self._rate_factor = max_grad_norm, rate_factor
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._parameters = list(online.parameters())
        for parameter in target.parameters():
            parameter.requires_grad_(False)
        self.updates = 0
        device = self._parameters[0].device
        # Sums since the last report stay on the device: reading them would wait for it.
        self._sums = list(torch.zeros(2, device=device))
        self._summed = 0

    def update(self, batch: Batch, step: int) -> Tensor:
        """Learns from ``batch`` at agent step ``step`` and returns priorities ``[B]``, on the device."""
        self._target_update.before_update(self.online, self.target, step)
        output = self.online(batch.observation)
        prediction = output.select(batch.action)
        with torch.no_grad():
            backup = self._bootstrap(self.online, self.target, batch)
        losses, priority = self._objective(prediction, backup)
        loss = (batch.weight * losses).mean()
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if self._max_grad_norm is not None:
            limit_norm(self._parameters, self._max_grad_norm)
        if self._rate_factor is not None:
            factor = self._rate_factor(step)
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor
        self._optimizer.step()
        self.updates += 1
        self._target_update.after_update(self.online, self.target, self.updates)
        with torch.no_grad():
            torch._foreach_add_(self._sums, [loss.detach(), output.values().mean()])
        self._summed += 1
        return priority

    def report(self) -> dict[str, float]:
        """Returns the mean loss and mean Q-value of the updates since the last report; empty without any."""
        if not self._summed:
            return {}
        loss, q_mean = (torch.stack(self._sums) / self._summed).tolist()
        torch._foreach_zero_(self._sums)
        self._summed = 0
        return {"loss": loss, "q_mean": q_mean}

    def state_dict(self) -> State:
        """Returns networks, optimiser, counters and sums."""
        return {
            "online": detached(self.online.state_dict()),
            "target": detached(self.target.state_dict()),
            "optimizer": detached(self._optimizer.state_dict()),
            "target_update": self._target_update.state_dict(),
            "updates": self.updates,
            "sums": torch.stack(self._sums),
            "summed": self._summed,
        }

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        self._optimizer.load_state_dict(detached(state["optimizer"]))  # torch would go on with the tensors it is given
        self._target_update.load_state_dict(state["target_update"])
        self.updates = int(state["updates"])
        torch._foreach_copy_(self._sums, list(state["sums"]))
        self._summed = int(state["summed"])
